// A client of the queue with nothing but the .proto files: health, publish, subscribe, ack.
// Usage: node client.mjs HOST:PORT; prints one JSON object.
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { QueueService, PublishRequestSchema, SubscribeRequestSchema, AckRequestSchema, AckOutcome, AckStatus } from "./generated/telemetry/v1/queue_pb.js";
import { QueueAdminService } from "./generated/telemetry/v1/queue_admin_pb.js";

const transport = createGrpcTransport({ baseUrl: `http://${process.argv[2]}` });
const queue = createClient(QueueService, transport);
const admin = createClient(QueueAdminService, transport);
const topic = "from-node";
const payload = Array.from({ length: 3 }, (_, i) => ({ data: new TextEncoder().encode(`message ${i}`) }));

async function* once(message) {
  yield message;
}

let receipt;
for await (const response of queue.publish(
  once(create(PublishRequestSchema, { requestId: "1", topic, batch: { messages: payload } })),
)) {
  if (response.result.case !== "receipt") throw new Error(`publish: ${response.result.value?.message}`);
  receipt = response.result.value;
}

// The request stream is closed after one message: the server goes on until the permits are used and settled.
const received = [];
let acked;
for await (const event of queue.subscribe(
  once(
    create(SubscribeRequestSchema, {
      request: { case: "start", value: { topics: [topic], group: "node", flow: { messages: payload.length } } },
    }),
  ),
)) {
  if (event.response.case !== "delivery") continue;
  const delivery = event.response.value;
  received.push(...delivery.batch.messages.map((message) => new TextDecoder().decode(message.data)));
  for await (const response of queue.ack(
    once(create(AckRequestSchema, { entries: [{ deliveryId: delivery.deliveryId, outcome: AckOutcome.ACK }] })),
  )) {
    acked = response.results.map((result) => AckStatus[result.status]);
  }
}

const { group } = await admin.getGroup({ group: "node" });
console.log(
  JSON.stringify({
    baseOffset: Number(receipt.baseOffset),
    received,
    acked,
    ackedThrough: Number(group.positions[0].ackedThrough),
  }),
);
