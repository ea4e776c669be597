/** The shell: rail, top line, the page that the address names, and the keys that work everywhere. */

import { useEffect, useMemo, useRef } from "react";
import { count } from "./alerts/alerts";
import { AlertsPage } from "./alerts/page";
import { alertStore, useAlerts } from "./alerts/store";
import { FleetPage } from "./fleet/page";
import { GpuPage } from "./gpu/page";
import { HealthPage } from "./health/page";
import { live } from "./live";
import { QueuePage } from "./queue/page";
import { followLink, navigate, type Page, pageOf, usePath } from "./router";
import { useStreamSelection } from "./selection";
import { loadSession, useSession } from "./session";
import { KeyHelp } from "./ui/keyhelp";
import { useKeys } from "./ui/keys";
import { Rail } from "./ui/rail";
import { SignIn } from "./ui/signin";
import { TopLine } from "./ui/topline";

const TITLES: Record<Page["name"], string> = {
  fleet: "GPU fleet",
  gpu: "GPU",
  alerts: "Alerts",
  queue: "Queue",
  health: "Health",
  missing: "Not found",
};

export function App() {
  const path = usePath();
  const page = useMemo(() => pageOf(path), [path]);
  const search = useRef<HTMLInputElement>(null);
  const help = useRef<HTMLDialogElement>(null);

  const signedOut = useSession().phase === "refused";

  useEffect(() => {
    void loadSession();
    live.start();
    return alertStore.start();
  }, []);
  useTitle(page);
  useStreamSelection(page);
  useKeys(
    useMemo(
      () => ({
        "/": () => search.current?.focus(),
        "?": () => help.current?.showModal(),
        space: live.toggle,
        "g f": () => navigate("/"),
        "g g": () => navigate("/gpu"),
        "g q": () => navigate("/queue"),
        "g a": () => navigate("/alerts"),
        "g h": () => navigate("/services"),
      }),
      [],
    ),
  );

  return (
    <>
      <a href="#content" className="sr-only z-50 bg-bg p-3 focus:not-sr-only focus:fixed focus:top-1 focus:left-1">
        Skip to the content
      </a>
      <Rail page={page.name} />
      <div className="pb-16 sm:pb-0 sm:pl-18">
        <TopLine page={page.name} search={search} showKeys={() => help.current?.showModal()} />
        <main id="content" tabIndex={-1} className="outline-none">
          {signedOut ? <SignIn /> : <Content page={page} />}
        </main>
      </div>
      <KeyHelp dialog={help} />
    </>
  );
}

/** The tab says how many alerts want somebody, before it is looked at. */
function useTitle(page: Page): void {
  const { all } = useAlerts();
  const { firing, silenced } = count(all.values());
  const loud = firing - silenced;
  useEffect(() => {
    const name = page.name === "fleet" ? TITLES.fleet : `${TITLES[page.name]} · ${TITLES.fleet}`;
    document.title = loud > 0 ? `(${loud}) ${name}` : name;
  }, [page.name, loud]);
}

function Content({ page }: { page: Page }) {
  switch (page.name) {
    case "fleet":
      return <FleetPage />;
    case "gpu":
      return <GpuPage gpu={page.gpu} key={page.gpu} />;
    case "alerts":
      return <AlertsPage />;
    case "queue":
      return <QueuePage />;
    case "health":
      return <HealthPage />;
    case "missing":
      return (
        <div className="p-6">
          <h1 className="text-large font-semibold">There is no such page.</h1>
          <a href="/" onClick={followLink} className="mt-2 inline-block underline underline-offset-2">
            Go to the fleet
          </a>
        </div>
      );
  }
}
