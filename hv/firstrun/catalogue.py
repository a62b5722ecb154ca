"""Which jobs a host has, in order."""

from hv.firstrun.backup import BackupJob
from hv.firstrun.certificate import CertificateJob
from hv.firstrun.enrol import EnrolJob
from hv.firstrun.fetched import image_jobs
from hv.firstrun.grow_root import GrowRootJob
from hv.firstrun.hardware import HardwareJob
from hv.firstrun.jobs import Job
from hv.firstrun.libvirt import LibvirtJob
from hv.firstrun.network import NetworkJob
from hv.firstrun.phase import PhaseJob
from hv.firstrun.pool import PoolJob
from hv.firstrun.secure_boot import SecureBootJob
from hv.firstrun.vm import VmJob
from hv.firstrun.webhook import WebhookJob
from installer.handoff import Handoff


def jobs_of(handoff: Handoff) -> tuple[Job, ...]:
    """Room first, the phase last; then others are told."""
    jobs: tuple[Job, ...] = (
        GrowRootJob(handoff.grow, (handoff.enrolment.key_file,) if handoff.enrolment else ()),
        EnrolJob(handoff.enrolment),
        HardwareJob(handoff.expectations),
        LibvirtJob(),
        PoolJob(handoff.pool),
        NetworkJob(),
        *image_jobs(handoff.vms),
        *(VmJob(handoff.hostname, vm) for vm in handoff.vms),
        CertificateJob(handoff.hostname),
        SecureBootJob(handoff.hostname),
        BackupJob(),
        PhaseJob(handoff.administrators),
    )
    names = tuple(job.name for job in jobs)
    return (*jobs, WebhookJob(handoff.hostname, handoff.webhooks, names))
