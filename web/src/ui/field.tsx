/** A labelled control in a form. */

import { type ReactNode, useId } from "react";

export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: string;
  children: (id: string) => ReactNode;
}) {
  const id = useId();
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="text-small text-muted">
        {label}
      </label>
      {children(id)}
      {hint && <span className="text-small text-muted">{hint}</span>}
    </div>
  );
}
