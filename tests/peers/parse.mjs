// Reads messages from stdin, each a line of base64; prints a JSON array of what mailparser makes of them.
import { createInterface } from "node:readline";
import libmime from "libmime"; // mailparser's own; it decodes no header that it does not know
import { simpleParser } from "mailparser";

const mailboxes = (boxes = []) =>
  boxes.flatMap(({ address, name, group }) => (group ? mailboxes(group) : [{ email: address, name }]));

const parsed = [];
for await (const line of createInterface({ input: process.stdin })) {
  const mail = await simpleParser(Buffer.from(line, "base64"), {
    skipHtmlToText: true, // else a text is made up where the mail has none
    skipTextToHtml: true,
    skipImageLinks: true,
  });
  parsed.push({
    subject: mail.subject ?? "",
    from: mailboxes(mail.from?.value),
    to: mailboxes(mail.to?.value),
    cc: mailboxes(mail.cc?.value),
    text: mail.text || null,
    html: mail.html || null,
    tag: mail.headers.has("x-tag") ? libmime.decodeWords(mail.headers.get("x-tag")) : null,
    headers: mail.headerLines.map(({ key }) => key),
    attachments: mail.attachments.length,
  });
}
process.stdout.write(JSON.stringify(parsed));
