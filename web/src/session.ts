/** Who looks at the page, and what they may change: the gateway's word. */

import { useSyncExternalStore } from "react";
import { get, onRefused, send } from "./api";

const ROLES = ["none", "view", "operate", "admin"] as const;
export type Role = (typeof ROLES)[number];

interface Answer {
  /** Whether the gateway asks for tokens at all. */
  tokens: boolean;
  name: string;
  role: Role;
}

export interface Session extends Answer {
  /** "refused": the gateway wants a token that it has not been shown. */
  phase: "unknown" | "known" | "refused";
}

let session: Session = { phase: "unknown", tokens: false, name: "", role: "view" };
const listeners = new Set<() => void>();

function change(part: Partial<Session>): void {
  session = { ...session, ...part };
  for (const listener of listeners) listener();
}

onRefused(() => {
  if (session.phase !== "refused") change({ phase: "refused", tokens: true, name: "", role: "none" });
});

const known = (answer: Answer): void => change({ ...answer, phase: "known" });

export async function loadSession(): Promise<void> {
  await get<Answer>("session").then(known, () => {
    // The gateway is away or wants a token; the page says so by other means.
  });
}

/** Show the token; the gateway keeps it in a cookie that scripts cannot read. */
export async function signIn(token: string): Promise<void> {
  known(await send<Answer>("POST", "session", undefined, { Authorization: `Bearer ${token}` }));
}

export async function signOut(): Promise<void> {
  await send<Answer>("DELETE", "session");
  change({ phase: "refused", name: "", role: "none" });
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useSession = (): Session => useSyncExternalStore(subscribe, () => session);

/** Whether a role includes another. */
export const includes = (mine: Role, wanted: Role): boolean => ROLES.indexOf(mine) >= ROLES.indexOf(wanted);
