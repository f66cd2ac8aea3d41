"""An encode job up to its first unit: the corpus planned, the bank made, and what of the plan the bank lacks."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cluster.session import Cluster, Session
from jobs.encode.request import (
    EncodeRequest,
    absolute,
    codec_folder,
    encode_options,
    existing_bank,
    unit_chunks,
    wants_gpus,
)
from model.config import VerifyConfig
from pipeline.bank.bank import PLAN, Bank
from pipeline.bank.create import require_room
from pipeline.bank.identity import CodecIdentity, codec_identity
from pipeline.bank.leave_nothing import leaving_nothing
from pipeline.bank.opened import open_bank
from pipeline.encode.bank_corpus import plan_bank
from pipeline.encode.bank_work import bank_work
from pipeline.encode.options import EncodeOptions
from pipeline.plan.plan import Plan, Work, plan_corpus
from pipeline.storage import storage
from pipeline.storage.folder import Folder


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the job will do, and the bank that it does it to."""

    bank: Bank
    plan: Plan
    work: Work  # what the bank lacks of the plan
    verifying: VerifyConfig
    gpus: bool  # whether each encoder gets one
    cluster: Cluster  # as it was seen before Ray was needed

    def options(self, request: EncodeRequest, cluster: Cluster) -> EncodeOptions:
        """What the workers are told, on the cluster that has started."""
        uri, codec, columns = self.bank.folder.uri, self.bank.codec_path, self.plan.columns
        return encode_options(request, uri, codec, columns, self.verifying, cluster, gpus=self.gpus)


def prepare(request: EncodeRequest, uri: str, session: Session) -> Prepared:
    """Plan the corpus, and make the bank where there is none: a refusal, or a Ray that does not start, leaves none.

    Raises ValueError, FileNotFoundError or OSError for what a person can mend.
    """
    cluster = session.look()
    gpus = wants_gpus(request, cluster)
    codec, verifying = codec_folder(request, uri, gpus=gpus)
    identity = codec_identity(codec, verifying)
    with leaving_nothing(Folder(uri), PLAN):
        plan = plan_request(request, uri, codec, gpus=gpus)
        if existing_bank(uri) is None:
            require_room(Folder(uri), plan.columns.metadata_fields)
            session.start()
        bank = _bank(uri, codec, identity, plan)
    if request.refine or request.keep_words:
        bank.add_columns()
    work = bank_work(plan, bank, retry_rejected=request.retry_rejected)
    return Prepared(bank, plan, work, verifying, gpus, cluster)


def plan_request(request: EncodeRequest, uri: str, codec: str, *, gpus: bool, scratch: str | None = None) -> Plan:
    """The request's corpus as work units; what planning notes lies in the bank, or all in the folder `scratch`."""
    folder, size = storage.join(uri, PLAN), unit_chunks(request, codec, gpus=gpus)
    if request.source is not None:
        return plan_bank(open_bank(request.source), unit_chunks=size, folder=folder, scratch=scratch)
    return plan_corpus(
        [absolute(argument) for argument in request.corpus],
        request.columns,
        unit_chunks=size,
        folder=folder,
        scratch=scratch,
        by_content=request.settings.check == "content",
    )


def _bank(uri: str, codec: str, identity: CodecIdentity, plan: Plan) -> Bank:
    """The bank, made where there is none. Refused where it has other metadata columns."""
    bank = existing_bank(uri)
    if bank is None:
        try:
            return Bank.create(uri, identity, plan.columns.metadata_fields, codec=codec)
        except FileExistsError:
            bank = existing_bank(uri)
            if bank is None:
                raise
            bank.require(identity)  # another job has made it this moment
    bank.require_metadata(plan.columns.metadata_fields)
    return bank
