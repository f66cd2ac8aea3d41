"""A judge of answers: any endpoint that speaks OpenAI's chat completions. Blind to what the answer was made from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import requests

from jobs.evaluate.kept import Kept, Record, key_of
from model.refusal import Refusal, Unreachable

KEYS = ("NEXTMEM_JUDGE_KEY", "OPENAI_API_KEY")  # variables that may hold the endpoint's key
SECONDS = 60
ASKED = (
    "You grade short answers. You get a question, the accepted answers, and an answer to grade. The answer is right "
    "if it means the same as one of the accepted answers, whatever its wording. An answer that adds something wrong is "
    'not right. Reply with JSON alone: {"right": true} or {"right": false}.'
)


@dataclass(frozen=True, slots=True)
class Judge:
    """`url`: the endpoint's base, such as http://localhost:8000/v1. Verdicts are kept: an answer is judged once."""

    url: str
    model: str
    kept: Kept

    def right(self, question: str, accepted: tuple[str, ...], said: str) -> bool:
        """Unreachable where the endpoint does not answer; Refusal where it answers with something else."""
        asked = f"Question: {question}\nAccepted answers: {json.dumps(accepted)}\nAnswer to grade: {json.dumps(said)}"
        owner, key = f"judge {self.model}", key_of(ASKED, asked)
        found = self.kept.find("verdict", owner, key)
        if found is None:
            found = Record(self._verdict(asked))
            self.kept.put("verdict", owner, {key: found})
        return bool(found.says)

    def _verdict(self, asked: str) -> bool:
        messages = [{"role": "system", "content": ASKED}, {"role": "user", "content": asked}]
        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
        try:
            reply = requests.post(
                f"{self.url.rstrip('/')}/chat/completions",
                json={"model": self.model, "messages": messages, "temperature": 0},
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=SECONDS,
            )
        except requests.RequestException as error:
            raise Unreachable(f"the judge at {self.url} does not answer: {type(error).__name__}") from None
        if reply.status_code != 200:
            raise Unreachable(f"the judge at {self.url} answers with status {reply.status_code}")
        try:
            said = reply.json()["choices"][0]["message"]["content"]
            verdict = json.loads(said[said.index("{") : said.rindex("}") + 1])["right"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise Refusal(
                f"the judge {self.model} at {self.url} answers no JSON verdict: {reply.text[:80]!r}"
            ) from None
        if not isinstance(verdict, bool):
            raise Refusal(f"the judge {self.model} at {self.url} answers {verdict!r}; wanted true or false")
        return verdict
