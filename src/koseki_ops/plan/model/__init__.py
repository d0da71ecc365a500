"""The typed model of an inventory's shared values (`group_vars/all`), a file a concern.

Each class is one table of the plan; each validator's message says what is wrong and what to do.
Rules that span tables are in `koseki_ops.plan.rules`.
"""

from koseki_ops.plan.model.municipalities import (
    Code6,
    Joining,
    Municipality,
    Takeover,
    Terminal,
    check_digit,
)
from koseki_ops.plan.model.network import Flow, HostAddresses, Line, PlanNetwork, ServicePorts
from koseki_ops.plan.model.people import AccountPolicy, Operator, RequestPolicy
from koseki_ops.plan.model.platform import Platform, with_version
from koseki_ops.plan.model.policies import (
    AlertRecipient,
    AlertWebhook,
    ApplicationRelease,
    AuditPolicy,
    CertificatePolicy,
    DiskVolume,
    DriftAlerts,
    Gateway,
    KernelModule,
    KernelParameter,
    KernelWord,
    KeyPath,
    LinkPolicy,
    MailAddress,
    MailRelay,
    TimingProfile,
    Waiver,
    WatchSchedule,
)
from koseki_ops.plan.model.values import (
    Address,
    DocumentText,
    IsoDate,
    Moment,
    Network,
    Port,
    Positive,
    Slug,
    Table,
)
from koseki_ops.plan.model.vaults import BackupPolicy, Vault, VaultSeal

__all__ = [
    "AccountPolicy",
    "Address",
    "AlertRecipient",
    "AlertWebhook",
    "ApplicationRelease",
    "AuditPolicy",
    "BackupPolicy",
    "CertificatePolicy",
    "Code6",
    "DiskVolume",
    "DocumentText",
    "DriftAlerts",
    "Flow",
    "Gateway",
    "HostAddresses",
    "IsoDate",
    "Joining",
    "KernelModule",
    "KernelParameter",
    "KernelWord",
    "KeyPath",
    "Line",
    "LinkPolicy",
    "MailAddress",
    "MailRelay",
    "Moment",
    "Municipality",
    "Network",
    "Operator",
    "PlanNetwork",
    "Platform",
    "Port",
    "Positive",
    "RequestPolicy",
    "ServicePorts",
    "Slug",
    "Table",
    "Takeover",
    "Terminal",
    "TimingProfile",
    "Vault",
    "VaultSeal",
    "Waiver",
    "WatchSchedule",
    "check_digit",
    "with_version",
]
