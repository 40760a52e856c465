// One worker process of BullMQ that sends with nodemailer's pool. Concurrency: its documentation calls 100 to 300 usual for
// jobs that wait for I/O. Removal of what is done as its documentation on production says; the pool as nodemailer's on
// bulk mail does.
const { Worker } = require("bullmq");
const nodemailer = require("nodemailer");

const { QUEUE, connection, smtpPort } = require("./arena.cjs");
const { SENDER, recipient, rendered } = require("./mail.cjs");

const CONCURRENCY = 100;
const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: smtpPort,
  secure: false,
  pool: true,
  maxConnections: 20,
  maxMessages: Infinity,
});

async function send({ data: { number } }) {
  await transport.sendMail({ from: SENDER, to: recipient(number), ...rendered(number) });
}

const worker = new Worker(QUEUE, send, {
  connection,
  concurrency: CONCURRENCY,
  removeOnComplete: { age: 3600, count: 1000 },
  removeOnFail: { age: 24 * 3600 },
});

process.on("SIGTERM", async () => {
  await worker.close();
  process.exit(0);
});
