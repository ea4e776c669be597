/** The ways through the page: a slim rail on the left, a bar at the bottom on phones. */

import { count } from "../alerts/alerts";
import { useAlerts } from "../alerts/store";
import { plural } from "../format";
import { followLink, type Page } from "../router";
import { Icon, type IconName } from "./icons";

const PLACES: readonly { page: Page["name"]; title: string; href: string; icon: IconName }[] = [
  { page: "fleet", title: "Fleet", href: "/", icon: "fleet" },
  { page: "gpu", title: "GPU", href: "/gpu", icon: "gpu" },
  { page: "queue", title: "Queue", href: "/queue", icon: "queue" },
  { page: "alerts", title: "Alerts", href: "/alerts", icon: "alerts" },
  { page: "health", title: "Health", href: "/services", icon: "health" },
];

export function Rail({ page }: { page: Page["name"] }) {
  return (
    <nav
      aria-label="Pages"
      className="fixed inset-x-0 bottom-0 z-30 flex border-t border-line bg-bg pb-[env(safe-area-inset-bottom)] sm:inset-y-0 sm:right-auto sm:w-18 sm:flex-col sm:border-t-0 sm:border-r sm:pt-3 sm:pb-0"
    >
      {PLACES.map((place) => (
        <a
          key={place.page}
          href={place.href}
          onClick={followLink}
          aria-current={place.page === page ? "page" : undefined}
          className="group relative flex h-14 flex-1 flex-col items-center justify-center gap-1 text-small text-muted hover:text-text aria-[current=page]:text-text sm:h-16 sm:flex-none"
        >
          <span className="absolute inset-x-6 top-0 hidden h-0.5 bg-text group-aria-[current=page]:block sm:inset-x-auto sm:inset-y-4 sm:left-0 sm:h-auto sm:w-0.5" />
          <span className="relative">
            <Icon name={place.icon} size={20} />
            {place.page === "alerts" && <Badge />}
          </span>
          {place.title}
        </a>
      ))}
    </nav>
  );
}

/** How many alerts want somebody now. */
function Badge() {
  const { all } = useAlerts();
  const { firing, silenced, critical } = count(all.values());
  const loud = firing - silenced;
  if (loud === 0) return null;
  return (
    <span
      className={`absolute -top-2 left-2.5 min-w-4 rounded-full px-1 text-center text-small font-semibold text-bg ${critical > 0 ? "bg-critical" : "bg-warning"}`}
    >
      <span aria-hidden>{loud > 99 ? "99+" : loud}</span>
      <span className="sr-only">{plural(loud, "alert")} firing</span>
    </span>
  );
}
