// Makes the calls of a JSON array (argv[2]) with the Node SDK, one after another, and prints what
// came of each as a line of JSON. NODE_PATH says where the SDK is.
const Anthropic = require('@anthropic-ai/sdk');

const client = new Anthropic({ apiKey: 'any', maxRetries: 0, timeout: 5000 });

const CALLS = {
  create: (request, options) => client.messages.create(request, options),
  async raw(request, options) {
    const { data, response, request_id } = await client.messages
      .create(request, options)
      .withResponse();
    return { message: data, id: request_id, headers: Object.fromEntries(response.headers) };
  },
  async events(request, options) {
    const events = [];
    for await (const event of await client.messages.create({ ...request, stream: true }, options)) {
      events.push(event);
    }
    return events;
  },
  async stream(request, options) {
    const parts = [];
    const stream = client.messages.stream(request, options).on('text', (part) => parts.push(part));
    return { message: await stream.finalMessage(), parts };
  },
  count: (request, options) => client.messages.countTokens(request, options),
  async models(query, options) {
    const ids = [];
    for await (const model of client.models.list(query, options)) ids.push(model.id);
    return ids;
  },
  batch: (request, options) => client.messages.batches.create(request, options),
  async batches(query, options) {
    const ids = [];
    for await (const batch of client.messages.batches.list(query, options)) ids.push(batch.id);
    return ids;
  },
  async batched(request, options) {
    const made = await client.messages.batches.create(request, options);
    const ended = await client.messages.batches.retrieve(made.id);
    const lines = [];
    for await (const line of await client.messages.batches.results(made.id)) lines.push(line);
    const deleted = await client.messages.batches.delete(made.id);
    return { made, ended, lines, deleted };
  },
  async cancelled(request, options) {
    const made = await client.messages.batches.create(request, options);
    return client.messages.batches.cancel(made.id);
  },
  model: ({ id }, options) => client.models.retrieve(id, undefined, options),
};

async function outcome({ call, request, options }) {
  try {
    return { ok: await CALLS[call](request, options) };
  } catch (error) {
    const classes = [];
    for (let at = error; at?.constructor?.name; at = Object.getPrototypeOf(at)) {
      if (classes.at(-1) !== at.constructor.name) classes.push(at.constructor.name);
    }
    const { status, type, errorCode, requestID, apiMessage, message } = error;
    const headers = error.headers ? Object.fromEntries(error.headers) : null;
    return { error: { classes, status, type, errorCode, requestID, apiMessage, message, headers } };
  }
}

(async () => {
  for (const each of JSON.parse(process.argv[2])) {
    process.stdout.write(JSON.stringify(await outcome(each)) + '\n');
  }
})();
