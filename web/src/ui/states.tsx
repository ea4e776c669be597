/** What stands where data would: nothing yet, none at all, an error, or only a part. */

import type { ReactNode } from "react";
import type { ApiError, Completeness } from "../api";
import { includes, type Role, useSession } from "../session";
import { CopyButton } from "./copy";
import { Icon } from "./icons";

/** A line across the page that says what is not as it should be, and keeps the rest of the page as it is. */
export function Note({ level, children }: { level: "warning" | "critical" | "unknown"; children: ReactNode }) {
  const colour = { warning: "text-warning", critical: "text-critical", unknown: "text-muted" }[level];
  return (
    <div
      role={level === "critical" ? "alert" : "status"}
      className="flex items-start gap-2 border-b border-line bg-raised px-4 py-2 sm:px-6"
    >
      <span className={`flex h-5 items-center ${colour}`}>
        <Icon name={level} />
      </span>
      <div className="min-w-0 flex-1 break-words">{children}</div>
    </div>
  );
}

export function ErrorNote({ error, retry, keeping }: { error: ApiError; retry: () => void; keeping: boolean }) {
  return (
    <Note level="critical">
      <strong className="font-semibold">{error.title}</strong>
      {error.detail && <span>: {error.detail}</span>}.{" "}
      <span className="text-muted">
        {keeping ? "Showing the last good picture; trying again by itself." : "Trying again by itself."}
      </span>{" "}
      <button type="button" onClick={retry} className="underline underline-offset-2">
        Try now
      </button>
    </Note>
  );
}

export function PartialNote({ completeness }: { completeness: Completeness | undefined }) {
  if (!completeness?.partial) return null;
  return (
    <Note level="warning">
      <strong className="font-semibold">Not everything is here.</strong>{" "}
      {completeness.warnings.join(" · ") || "A part of the system did not answer."}
    </Note>
  );
}

/** Why something cannot be changed here, and how it could be. */
export function RoleNote({ needs, what }: { needs: Role; what: string }) {
  const session = useSession();
  if (session.phase === "unknown" || includes(session.role, needs)) return null;
  return (
    <p className="flex items-start gap-2 text-muted" data-testid="role-note">
      <span className="flex h-5 items-center">
        <Icon name="info" size={14} />
      </span>
      <span>
        {session.tokens ? (
          <>
            {what} needs a token with the role <strong className="font-semibold text-text">{needs}</strong>; this one
            {session.name && ` (${session.name})`} has the role {session.role}.
          </>
        ) : (
          <>
            {what} is not allowed here: this gateway only shows things. Start it with{" "}
            <code className="text-text">--admin</code> to change them.
          </>
        )}
      </span>
    </p>
  );
}

/** Empty: how to send the first data, with the very command. */
export function Empty({ title, command, children }: { title: string; command?: string; children: ReactNode }) {
  return (
    <div className="flex min-h-[50vh] flex-col items-center justify-center gap-3 px-6 text-center" data-testid="empty">
      <h2 className="text-large font-semibold">{title}</h2>
      <p className="max-w-prose text-muted">{children}</p>
      {command && (
        <div className="mt-2 flex items-center gap-3 rounded-md border border-line bg-raised py-2 pr-2 pl-4">
          <code>{command}</code>
          <CopyButton text={command} what="the command" />
        </div>
      )}
    </div>
  );
}

/** The shape of what comes. Classes say the size. */
export function Skeleton({ className }: { className: string }) {
  return <div aria-hidden className={`skeleton ${className}`} />;
}
