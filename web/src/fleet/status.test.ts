import { describe, expect, test } from "vitest";
import { loudest } from "../alerts/alerts";
import { alert } from "../alerts/samples";
import { fleetFrom } from "./fleet";
import { response } from "./samples";
import { parseFilter } from "./select";
import { assess, LOST_S } from "./status";

const fleet = fleetFrom(response({ gpus: ["GPU-1", "GPU-2"], hosts: ["h1", "h2"] }));

describe("an alert that fires", () => {
  test("makes a GPU as bad as it is, and names the rule", () => {
    const status = assess(fleet, 0, loudest([alert({ severity: "warning" })]));
    expect(status).toMatchObject({ level: "warning", condition: "alert", reason: "GpuOverheating" });
    expect(status.alert?.id).toBe("a1");
  });

  test("of a host is one of each of its GPUs, and of no other", () => {
    const loud = loudest([alert({ gpu: "", host: "h2" })]);
    expect(assess(fleet, 0, loud).level).toBe("ok");
    expect(assess(fleet, 1, loud)).toMatchObject({ level: "critical", condition: "alert" });
  });

  test("does not hide what is worse, nor that a GPU is lost", () => {
    const hot = fleetFrom(
      response({ gpus: ["GPU-1", "b"], columns: { temperature: [90, 1], slowdown_temperature: [87, 87] } }),
    );
    const warned = assess(hot, 0, loudest([alert({ severity: "warning" })]));
    expect(warned).toMatchObject({ level: "critical", condition: "hot", alert: { id: "a1" } });
    const lost = fleetFrom(response({ gpus: ["GPU-1", "b"], timestamps: [999 - LOST_S, 999] }));
    expect(assess(lost, 0, loudest([alert()]))).toMatchObject({ condition: "lost", alert: { id: "a1" } });
  });

  test("for information, or silenced, changes nothing", () => {
    const info = loudest([alert({ severity: "info" }), alert({ silenced_by: ["s"] })]);
    expect(assess(fleet, 0, info)).toEqual(assess(fleet, 0));
  });

  test("is found by the filter", () => {
    const loud = loudest([alert()]);
    const filter = parseFilter("status:alert", []);
    expect([0, 1].map((row) => filter.matches(fleet, row, assess(fleet, row, loud)))).toEqual([true, false]);
  });
});
