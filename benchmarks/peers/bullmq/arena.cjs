// The arena as the programs of this peer see it: their environment.
const { hostname, port } = new URL(process.env.ARENA_REDIS_URL);

module.exports = {
  QUEUE: "receipts",
  connection: { host: hostname, port: Number(port), maxRetriesPerRequest: null },
  smtpPort: Number(process.env.ARENA_SMTP_PORT),
  mails: Number(process.env.ARENA_MAILS),
};
