"""What an operator does with many tasks, with queues and with workers."""

from __future__ import annotations

from agentflow.client.asking import Asking
from agentflow.client.operate.batches import Batches
from agentflow.client.operate.bulk import Bulk
from agentflow.client.operate.deadletters import DeadLetters
from agentflow.client.operate.draining import Draining
from agentflow.client.operate.jobs import Jobs
from agentflow.client.operate.pauses import Pauses
from agentflow.client.operate.tokens import Tokens
from agentflow.client.operate.webhooks import Webhooks
from agentflow.client.operate.why import Questions
from agentflow.client.operate.withdrawing import Withdrawing
from agentflow.client.session import Session
from agentflow.client.tasks.tasks import Tasks


class Operate:
    """The parts that Client and the command line use."""

    def __init__(self, session: Session, asking: Asking, tasks: Tasks) -> None:
        self.bulk = Bulk(session, asking, tasks.steering)
        self.dead = DeadLetters(session, tasks.steering)
        self.pauses = Pauses(session)
        self.draining = Draining(session, self.pauses, asking)
        self.batches = Batches(session, asking)
        self.questions = Questions(session, tasks.lookup, asking, self.pauses, self.batches)
        self.jobs = Jobs(session)
        self.tokens = Tokens(session)
        self.webhooks = Webhooks(session)
        self.withdrawing = Withdrawing(session, self.jobs)
