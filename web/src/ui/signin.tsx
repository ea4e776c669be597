/** Asks for the token that the gateway wants. */

import { type FormEvent, useState } from "react";
import { alertStore } from "../alerts/store";
import { ApiError } from "../api";
import { live } from "../live";
import { signIn } from "../session";
import { Field } from "./field";

export function SignIn() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    setBusy(true);
    signIn(token.trim()).then(
      () => {
        live.retryNow();
        alertStore.reload();
      },
      (error) => {
        setBusy(false);
        setProblem(
          error instanceof ApiError && error.status === 401 ? "This token is not accepted." : String(error.message),
        );
      },
    );
  };
  return (
    <div className="flex min-h-[70vh] items-center justify-center px-6">
      <form onSubmit={submit} className="flex w-80 flex-col gap-4" data-testid="sign-in">
        <h1 className="text-large font-semibold">Sign in</h1>
        <p className="text-muted">
          This gateway wants a token. Whoever runs it makes one with <code className="text-text">telemetry token</code>.
        </p>
        <Field label="Token">
          {(id) => (
            <input
              id={id}
              type="password"
              autoComplete="current-password"
              className="field w-full"
              value={token}
              onChange={(event) => setToken(event.target.value)}
            />
          )}
        </Field>
        {problem && (
          <p role="alert" className="text-critical">
            {problem}
          </p>
        )}
        <button type="submit" className="button button-main justify-center" disabled={busy || token.trim() === ""}>
          Sign in
        </button>
      </form>
    </div>
  );
}
