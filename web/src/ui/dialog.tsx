/** A dialog over the page: one question at a time, closed with escape, the cross, or a press beside it. */

import { type ReactNode, useEffect, useId, useRef } from "react";
import { Icon } from "./icons";

interface DialogProps {
  title: string;
  /** Rendered while it is open; take it out of the page to close it. */
  close: () => void;
  wide?: boolean;
  children: ReactNode;
}

export function Dialog({ title, close, wide = false, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    // Else the cross would have it.
    shown?.querySelector<HTMLElement>("[data-first]")?.focus();
    return () => shown?.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: escape does the same
    <dialog
      ref={dialog}
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onClick={(event) => event.target === dialog.current && close()}
      className={`m-auto max-h-[calc(100dvh-2rem)] max-w-[calc(100vw-2rem)] overflow-y-auto rounded-lg border border-line bg-bg text-text backdrop:bg-black/50 ${wide ? "w-[44rem]" : "w-[32rem]"}`}
    >
      <div className="p-5">
        <div className="mb-4 flex items-start justify-between gap-4">
          <h2 id={heading} className="font-semibold">
            {title}
          </h2>
          <button
            type="button"
            aria-label="Close"
            className="-m-1 rounded p-1 text-muted hover:text-text"
            onClick={close}
          >
            <Icon name="close" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}

/** What went wrong with what was asked in a dialog. */
export function DialogError({ error }: { error: Error | null }) {
  if (!error) return null;
  return (
    <p role="alert" className="mt-4 flex items-start gap-2 text-critical">
      <span className="flex h-5 items-center">
        <Icon name="critical" size={14} />
      </span>
      <span className="min-w-0 break-words">{error.message}</span>
    </p>
  );
}

/** The row of buttons at the end. */
export function DialogButtons({ children }: { children: ReactNode }) {
  return <div className="mt-5 flex flex-wrap justify-end gap-2">{children}</div>;
}
