// Puts all mails on the queue, as its documentation on bulk adding shows.
const { Queue } = require("bullmq");

const { QUEUE, connection, mails } = require("./arena.cjs");

const AT_ONCE = 1000;

async function fill() {
  const queue = new Queue(QUEUE, { connection });
  for (let first = 1; first <= mails; first += AT_ONCE) {
    const length = Math.min(AT_ONCE, mails - first + 1);
    const numbers = Array.from({ length }, (_, place) => first + place);
    await queue.addBulk(numbers.map((number) => ({ name: "receipt", data: { number } })));
  }
  await queue.close();
}

fill();
