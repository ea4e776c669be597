/** A button that copies a text and says that it did. */

import { useEffect, useState } from "react";
import { Icon } from "./icons";

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button
      type="button"
      title={`Copy ${what}`}
      aria-label={copied ? "Copied" : `Copy ${what}`}
      className={`rounded p-1 ${copied ? "text-ok" : "text-muted hover:text-text"}`}
      onClick={() => void navigator.clipboard?.writeText(text).then(() => setCopied(true))}
    >
      <Icon name={copied ? "ok" : "copy"} size={14} />
    </button>
  );
}
