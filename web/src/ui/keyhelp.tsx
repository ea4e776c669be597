/** The keys, in a dialog. */

import { type RefObject, useId } from "react";
import { KEYS } from "./keys";

export function KeyHelp({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  const title = useId();
  return (
    <dialog
      ref={dialog}
      aria-labelledby={title}
      className="m-auto w-96 max-w-[calc(100vw-2rem)] rounded-lg border border-line bg-bg p-5 text-text backdrop:bg-black/50"
    >
      <h2 id={title} className="mb-3 font-semibold">
        Keys
      </h2>
      <dl className="grid grid-cols-[auto_1fr] items-baseline gap-x-4 gap-y-2">
        {KEYS.map(({ keys, what }) => (
          <div key={keys} className="contents">
            <dt className="flex gap-1">
              {keys.split(" ").map((key) => (
                <kbd key={key} className="min-w-6 rounded border border-line bg-raised px-1.5 text-center">
                  {key}
                </kbd>
              ))}
            </dt>
            <dd className="text-muted">{what}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog" className="mt-4 text-right">
        <button type="submit" className="field px-4">
          Close
        </button>
      </form>
    </dialog>
  );
}
