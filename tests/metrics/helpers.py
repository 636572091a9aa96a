"""Services that follow a script, and calls of them in both ways."""

import asyncio
import threading
from contextlib import suppress


class Script:
    """Answers by a list: an exception is raised, anything else is the result; the last one stays."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), 0

    def __call__(self):
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        if isinstance(answer, BaseException):
            raise answer
        return answer


def call(policy, face, body):
    """Call a body through a policy in the way of the face; whatever it raises is of no interest here."""

    async def abody():
        return body()

    async def main():
        with suppress(Exception):
            await policy.acall(abody)

    if face == "async":
        asyncio.run(main())
    else:
        with suppress(Exception):
            policy.call(body)


def loop(policy, face, body):
    """Do the same in the loop form."""

    async def main():
        async for attempt in policy.attempts():
            with attempt:
                attempt.result = body()

    with suppress(Exception):
        if face == "async":
            asyncio.run(main())
            return
        for attempt in policy.attempts():
            with attempt:
                attempt.result = body()


def until(condition):
    """Wait for a condition for five seconds at most."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to that")
