/** The line at the top: where one is, search, time range, live or paused, theme, keys. */

import { type RefObject, useMemo } from "react";
import { plural } from "../format";
import { RangeChoice } from "../gpu/range-choice";
import { useLive } from "../live";
import type { Page } from "../router";
import { signOut, useSession } from "../session";
import { Icon } from "./icons";
import { LiveState } from "./livestate";
import { Search } from "./search";
import { chooseTheme, THEMES, useTheme } from "./theme";

export function TopLine({
  page,
  search,
  showKeys,
}: {
  page: Page["name"];
  search: RefObject<HTMLInputElement | null>;
  showKeys: () => void;
}) {
  const { fleet } = useLive();
  const theme = useTheme();
  const session = useSession();
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
  const hosts = useMemo(() => new Set(fleet?.hosts.filter(Boolean)).size, [fleet?.hosts]);
  return (
    <header className="sticky top-0 z-20 flex h-13 items-center gap-2 border-b border-line bg-bg px-3 sm:gap-4 sm:px-6">
      <div className="hidden whitespace-nowrap md:block">
        <span className="font-semibold">GPU fleet</span>
        {fleet && fleet.gpus.length > 0 && (
          <span className="ml-3 text-muted">
            {plural(fleet.gpus.length, "GPU")}
            {hosts > 0 && ` · ${plural(hosts, "host")}`}
          </span>
        )}
      </div>
      <Search input={search} />
      <div className="ml-auto flex items-center gap-1">
        {page === "gpu" && (
          <div className="hidden lg:block">
            <RangeChoice />
          </div>
        )}
        <LiveState />
        {session.name && (
          <button
            type="button"
            className="hidden h-8 rounded-md px-2 text-muted hover:bg-raised hover:text-text md:block"
            title={`Signed in as ${session.name} (${session.role}). Press to sign out`}
            onClick={() => void signOut()}
          >
            {session.name}
          </button>
        )}
        <button
          type="button"
          className="rounded-md p-2 text-muted hover:bg-raised hover:text-text"
          title={`Theme: ${theme}. Change to ${next}`}
          aria-label={`Theme: ${theme}. Change to ${next}`}
          onClick={() => chooseTheme(next)}
        >
          <Icon name={theme} />
        </button>
        <button
          type="button"
          className="hidden rounded-md p-2 text-muted hover:bg-raised hover:text-text sm:block"
          title="Keys (?)"
          aria-label="Show the keys"
          onClick={showKeys}
        >
          <Icon name="keyboard" />
        </button>
      </div>
    </header>
  );
}
