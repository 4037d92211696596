// Tasks of kind `claude` with @anthropic-ai/sdk in this process: the document's own design.
//
//     NATS_URL=... node worker.js QUEUE SLOTS
//
// It claims and ends tasks by the rules of docs/protocol.md, so the same is stored for each task as
// by AgentFlow's worker, and renews what it runs. It has only the way of a task that goes well:
// for a retry, a take-over, a dead letter or a question it stops with the reason, which the
// comparison counts as an error.

import Anthropic from "@anthropic-ai/sdk";
import { connect, headers as newHeaders } from "@nats-io/transport-node";

const [queue, slots] = [process.argv[2], Number(process.argv[3])];
const MODEL = "claude-sonnet-5-5";
const MAX_TOKENS = 4096;
const LEASE_MS = 15_000;
const ACTOR = `node-${process.pid}`;

const nats = await connect({ servers: process.env.NATS_URL });
const claude = new Anthropic({ maxRetries: 0 });

function give_up(why) {
  console.error(`node worker: ${why}`);
  process.exit(1);
}

async function ask(subject, body, fence = {}) {
  const headers = newHeaders();
  for (const [name, value] of Object.entries(fence)) headers.set(name, String(value));
  const answer = await nats.request(subject, JSON.stringify(body), { timeout: 10_000, headers });
  return answer.json();
}

async function append(subject, record) {
  const ack = await ask(`agentflow.${subject}.${record.id}`, record, {
    "Nats-Expected-Last-Subject-Sequence": record.follows,
    "Nats-Expected-Last-Subject-Sequence-Subject": `agentflow.*.${record.id}`,
  });
  if (ack.error) give_up(`the log of ${record.id} refuses ${record.state}: ${ack.error.description}`);
  return ack.seq;
}

async function run(message) {
  const began = new Date();
  // $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<of the consumer>.<stored>.<pending>
  const [, , , , delivered, sequence, , stored] = message.reply.split(".");
  const id = message.headers?.get("Agentflow-Id");
  if (delivered !== "1" || !id) give_up(`message ${sequence} is no first delivery of a task with an id`);
  const body = message.json();
  const timings = {
    submitted: new Date(Number(BigInt(stored) / 1_000_000n)).toISOString(),
    started: began.toISOString(),
    run_s: 0,
  };
  const record = {
    v: 1, id, state: "running", attempt: 1, failures: 0, actor: ACTOR, follows: 0,
    message: `${sequence}-${stored}`, time: began.toISOString(), queue, priority: "normal",
    kind: "claude", labels: {}, usage: {}, cost_usd: null, timings,
  };
  const claim = await append("progress", record);
  const renewing = setInterval(() => message.respond("+WPI"), LEASE_MS / 3);
  let usage = {}, end = {}, text = "";
  try {
    const stream = await claude.messages.create({
      model: body.model ?? MODEL, max_tokens: body.max_tokens ?? MAX_TOKENS, stream: true,
      messages: [{ role: "user", content: body.prompt }],
    });
    for await (const event of stream) {
      if (event.type === "content_block_delta") text += event.delta.text ?? "";
      else if (event.type === "message_start") usage = event.message.usage;
      else if (event.type === "message_delta") {
        usage = { ...usage, ...event.usage };
        end = event.delta;
      }
    }
    end = { state: "succeeded", text, stop_reason: end.stop_reason };
  } catch (error) {
    end = { state: "failed", reason: "api", error: { type: error.constructor.name, message: String(error.message) } };
  } finally {
    clearInterval(renewing);
  }
  const ended = new Date();
  const counted = Object.fromEntries(
    ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map(
      (name) => [name, usage[name] ?? 0]),
  );
  await append("results", {
    ...record, ...end, follows: claim, time: ended.toISOString(), model: MODEL, usage: counted,
    timings: { ...timings, ended: ended.toISOString(), run_s: (ended - began) / 1000 },
  });
  message.respond("+ACK");
}

async function slot(number) {
  const inbox = `_INBOX.${ACTOR}.${number}`;
  const messages = nats.subscribe(inbox)[Symbol.asyncIterator]();
  for (;;) {
    const pull = JSON.stringify({ batch: 1, expires: 30_000_000_000 });
    nats.publish(`$JS.API.CONSUMER.MSG.NEXT.AGENTFLOW_TASKS.${queue}-normal`, pull, { reply: inbox });
    const { value: message } = await messages.next();
    // Anything else is a status, such as: the request has expired.
    if (message?.reply?.startsWith("$JS.ACK.")) await run(message);
  }
}

const made = await ask(`$JS.API.CONSUMER.CREATE.AGENTFLOW_TASKS.${queue}-normal`, {
  stream_name: "AGENTFLOW_TASKS",
  action: "create",
  config: {
    name: `${queue}-normal`, durable_name: `${queue}-normal`, ack_policy: "explicit",
    deliver_policy: "all", replay_policy: "instant", ack_wait: LEASE_MS * 1_000_000,
    max_deliver: -1, max_ack_pending: 20_000, max_waiting: 2048, num_replicas: 0,
    filter_subjects: [`agentflow.tasks.${queue}`, `agentflow.tasks.${queue}.normal`],
  },
});
if (made.error && ![10013, 10148].includes(made.error.err_code)) give_up(made.error.description);
for (let number = 0; number < slots; number++) {
  slot(number).catch((error) => give_up(error.stack));
}
process.on("SIGTERM", () => process.exit(0));
process.stdin.on("end", () => process.exit(0)).resume(); // whoever started us is gone
