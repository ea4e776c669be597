import { afterEach, expect, test, vi } from "vitest";
import { ApiError, api, onRefused, send } from "./api";
import { includes } from "./session";

afterEach(() => vi.unstubAllGlobals());

const answer = (status: number, body: unknown): void => {
  vi.stubGlobal(
    "fetch",
    vi.fn(async () => new Response(status === 204 ? null : JSON.stringify(body), { status })),
  );
};

test("a role includes those before it", () => {
  expect(includes("admin", "operate")).toBe(true);
  expect(includes("view", "operate")).toBe(false);
  expect(includes("none", "view")).toBe(false);
});

test("that a token is wanted is heard wherever it is asked for", async () => {
  const refused = vi.fn();
  onRefused(refused);
  answer(401, { title: "Unauthorized", detail: "a token is needed" });
  await expect(api.health()).rejects.toThrow("a token is needed");
  expect(refused).toHaveBeenCalledTimes(1);
});

test("a change sends JSON, and an answer without a body is none", async () => {
  answer(204, null);
  expect(await send("DELETE", "alerts/silences/1")).toBeUndefined();
  answer(201, { id: "1" });
  expect(await send("POST", "alerts/silences", { comment: "x" })).toEqual({ id: "1" });
  expect(fetch).toHaveBeenCalledWith(
    "/api/v1/alerts/silences",
    expect.objectContaining({
      method: "POST",
      body: '{"comment":"x"}',
      headers: { Accept: "application/json", "Content-Type": "application/json" },
    }),
  );
});

test("a refused change says why", async () => {
  answer(403, { title: "Forbidden", detail: "this needs the role operate" });
  const refusal = await send("POST", "queue/groups/g:seek", {}).catch((error: ApiError) => error);
  expect(refusal).toBeInstanceOf(ApiError);
  expect((refusal as ApiError).status).toBe(403);
  expect((refusal as ApiError).message).toContain("operate");
});
