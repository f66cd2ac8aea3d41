"""The plan against the bank: what is still to be encoded."""

from __future__ import annotations

from pipeline.bank.bank import Bank
from pipeline.bank.rejected import to_try_again
from pipeline.plan.plan import Plan, Work


def bank_work(plan: Plan, bank: Bank, *, retry_rejected: bool = False) -> Work:
    """What the bank lacks of the plan. Files of finished units are left unread where no document was ever replaced.

    `retry_rejected`: also what encoders left out of finished units.
    """
    replacements = bank.replacements()
    losses = replacements > 0 and bank.has_losses()  # on an object store each question reads the log's latest entries
    again = to_try_again(bank) if retry_rejected else {}
    finished = bank.finished_documents(None if losses else plan.unit_ids())
    passed_over = {} if replacements else {unit: brought for unit, brought in finished.items() if unit not in again}
    return plan.against(
        bank.documents(but_of=frozenset(passed_over), before_edits=True),
        finished,
        replacements=replacements,
        losses=losses,
        again=again,
        committed=sum(passed_over.values()),
        forgotten=bank.forgotten().among if len(bank.forgotten()) else None,
    )
