// benchmarks/mail.py in this language, and the same template, precompiled by nunjucks. `node mail.cjs N` prints mail N's
// subject, text and html as JSON.
const { readFileSync } = require("node:fs");
const path = require("node:path");

const nunjucks = require("nunjucks");

const FOLDER = path.join(__dirname, "..", "..", "templates", "receipt");
const GOODS = [
  "Kettle",
  "Bread knife",
  "Linen towel",
  "Pepper mill",
  "Tea tin",
  "Oven glove",
  "Salt & sugar set",
  "Chopping board",
];
const SENDER = "hello@postroom.example";

const recipient = (number) => `customer${number}@example.com`;

const money = (number, place) => (((number * 7 + place * 131) % 9000) / 100 + 5).toFixed(2);

function variables(number) {
  const items = GOODS.map((name, index) => {
    const place = index + 1;
    const sku = `SKU-${String(number % 1000).padStart(4, "0")}-${place}`;
    return { name, sku, quantity: 1 + (place % 3), amount: money(number, place) };
  });
  const reference = `A-${String(number).padStart(7, "0")}`;
  return {
    order: {
      number: reference,
      customer: `Ada Customer <${number}>`,
      currency: "EUR",
      items_bought: items,
      total: items.reduce((sum, item) => sum + Number(item.amount), 0).toFixed(2),
      address: `${number} Example Street, 12345 Sampleton`,
      note: number % 2 ? "Please ring twice." : null,
      url: `https://shop.example/orders/${reference}?from=mail`,
    },
  };
}

function compiled(file) {
  const options = { autoescape: file.endsWith(".html"), trimBlocks: true, lstripBlocks: true };
  const source = readFileSync(path.join(FOLDER, file), "utf8").replace(/\n$/, ""); // which Jinja drops by itself
  return new nunjucks.Template(source, new nunjucks.Environment(null, options), file, true);
}

const [SUBJECT, TEXT, HTML] = ["subject.txt", "body.txt", "body.html"].map(compiled);

function rendered(number) {
  const data = variables(number);
  const subject = SUBJECT.render(data);
  return { subject, text: TEXT.render(data), html: HTML.render({ ...data, mail: { subject } }) };
}

module.exports = { SENDER, recipient, rendered };

if (require.main === module) {
  console.log(JSON.stringify(rendered(Number(process.argv[2]))));
}
