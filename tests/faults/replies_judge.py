"""What `Pool.send` told of a mail, beside what the relay knows of it: the promises that hold whatever a relay says."""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailer.jobs import Phase, Reply
from tests.faults.dealings import Dealing
from worker.journal import Withheld
from worker.relays.answers import Answer, Kind
from worker.relays.gate import Busy
from worker.relays.pool import Try
from worker.relays.replies import Fate, decide
from worker.relays.transaction import Envelope

MAILING = {Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT}
CLOSING = 421
TAG = re.compile(r"\[m(\d+) ([^\]]+)\]")


@dataclass
class Mail:
    """`outcome`: what `send` returned or raised."""

    number: int
    envelope: Envelope
    past_journal: set[int]
    journal_s: float = 0.0
    is_withheld: bool = False
    journaled: int = 0
    outcome: Try | BaseException | None = None
    took_s: float = 0.0

    async def journal(self, replies: Mapping[str, Reply]) -> None:
        self.journaled += 1
        await asyncio.sleep(self.journal_s)
        if self.is_withheld:
            raise Withheld("not this one")
        self.past_journal.add(self.number)

    @property
    def whole(self) -> bytes:
        """Its content as it has to arrive."""
        content = self.envelope.content
        return content if content.endswith(b"\r\n") else content + b"\r\n"


@dataclass
class Judge:
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    liars: frozenset[int] = frozenset()
    """Mails that were offered on a connection that lied: a later one may hear what is theirs, and be gone before the
    relay has read of it."""

    def demand(self, holds: bool, promise: str, mail: Mail, *dealings: Dealing) -> None:
        if holds:
            return
        told = mail.outcome
        verdicts, said = (told.verdicts, told.conversation) if isinstance(told, Try) else (repr(told), ())
        words = (f"m{mail.number}: {promise}", str(verdicts), *map(str, dealings), *said)
        self.broken.append("\n  ".join(words))

    def judge(self, mail: Mail, dealings: list[Dealing]) -> None:
        self.counts["mails"] += 1
        dots = [dealing for dealing in dealings if dealing.content is not None]
        self.demand(len(dots) <= 1, "one dot at the most", mail, *dots)
        self.demand(len(dots) <= mail.journaled, "no dot without the journal", mail, *dots)
        self.demand(not (dots and mail.is_withheld), "a mail that was withheld gets no dot", mail, *dots)
        for dealing in dots:
            self.demand(dealing.content == mail.whole, "the content arrives as it was", mail, dealing)
        match mail.outcome:
            case Try():
                self._tried(mail, mail.outcome, dealings, dots[0] if dots else None)
            case Busy():
                self.counts["busy"] += 1
                self.demand(not dealings, "a mail that was not let in is not offered", mail, *dealings)
            case asyncio.CancelledError():
                self.counts["cancelled"] += 1
            case Withheld() if mail.is_withheld:
                self.counts["withheld"] += 1
            case _:
                self.demand(False, "send returns a Try", mail, *dealings)

    def _tried(self, mail: Mail, told: Try, dealings: list[Dealing], dot: Dealing | None) -> None:
        answers = told.verdicts.answers
        self.demand(set(answers) == set(mail.envelope.emails), "each recipient has an answer", mail)
        lied = any(dealing.line.lied for dealing in dealings)
        self.counts["mails on connections that lied"] += lied
        for email, answer in answers.items():
            if answer.is_accepted:
                self._accepted(mail, email, dealings, dot)
            else:
                self._not_accepted(mail, email, answer, dealings, dot)
            if not lied and answer.kind is Kind.REPLY and answer.phase in MAILING:
                self._paired(mail, email, answer)

    def _accepted(self, mail: Mail, email: str, dealings: list[Dealing], dot: Dealing | None) -> None:
        if dot is not None and not dot.line.lied:
            self.counts["accepted"] += 1
            self.demand(dot.is_accepted, "accepted is what the relay took", mail, dot)
            self.demand(email in dot.taken, "accepted is for whom the relay took it", mail, dot)
            return
        self.counts["accepted, as a liar said"] += 1
        yes = [each for each in dealings if each.line.lied and any(code // 100 == 2 for code in each.said)]
        self.demand(bool(yes), "accepted is what the relay said", mail, *dealings)

    def _not_accepted(
        self, mail: Mail, email: str, answer: Answer, dealings: list[Dealing], dot: Dealing | None
    ) -> None:
        rule = decide(answer)
        self.counts[f"{rule.then.fate}: {rule.row}"] += 1
        if dot is None:
            heard = answer.phase is Phase.DOT and answer.kind is Kind.REPLY
            may = not heard or any(each.early is not None or each.line.lied for each in dealings)
            self.demand(may, "no answer to a dot that never came", mail, *dealings)
        elif dot.line.lied:
            kept = not dot.is_accepted or email not in dot.taken or rule.then.fate is Fate.UNKNOWN
            self.counts["not accepted, as a liar said"] += not kept
        elif email not in dot.taken:
            self.demand(answer.phase is Phase.RCPT, "a refused recipient stays refused", mail, dot)
        else:
            self._of_a_dot(mail, answer, rule.then.fate, dot)

    def _of_a_dot(self, mail: Mail, answer: Answer, fate: Fate, dot: Dealing) -> None:
        self.demand(answer.phase is Phase.DOT, "what is told of a dot is about the dot", mail, dot)
        if answer.kind is not Kind.REPLY:
            self.demand(fate is Fate.UNKNOWN, "a dot without an answer is a doubt", mail, dot)
            return
        refusals = {code for code in (dot.verdict, dot.early) if code is not None and code >= 400}
        self.demand(answer.reply.code in refusals, "a refusal is what the relay said", mail, dot)
        self.demand(fate is not Fate.UNKNOWN, "a refusal is no doubt", mail, dot)

    def _paired(self, mail: Mail, email: str, answer: Answer) -> None:
        tag = TAG.search(answer.reply.text)
        if tag is None:
            return
        if int(tag[1]) != mail.number:
            self.demand(int(tag[1]) in self.liars, "an answer is one to this mail", mail)
            return
        said = {
            Phase.MAIL: {"MAIL"},
            Phase.RCPT: {f"RCPT {email}"},
            Phase.DATA: {"DATA"},
            Phase.DOT: {"DOT", "DATA"},  # a refusal in the midst of the content may come when the dot is on its way
        }[answer.phase]
        if answer.reply.code != CLOSING:  # which is everybody's answer
            self.demand(tag[2] in said, "an answer is one to this command", mail)
