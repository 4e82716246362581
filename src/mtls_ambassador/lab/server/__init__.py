"""An embedded Mender Server for evaluation and tests: one process, SQLite, the parts that devices and proxies use."""

from mtls_ambassador.lab.server.deployment_records import LabArtifact, LabDeployment
from mtls_ambassador.lab.server.faults import Fault, FaultError, parse_fault
from mtls_ambassador.lab.server.records import LabAuthSet, LabCall, LabDevice
from mtls_ambassador.lab.server.refusals import Refusal
from mtls_ambassador.lab.server.server import LabServer
from mtls_ambassador.lab.server.settings import LabSettings

__all__ = [
    "Fault",
    "FaultError",
    "LabArtifact",
    "LabAuthSet",
    "LabCall",
    "LabDeployment",
    "LabDevice",
    "LabServer",
    "LabSettings",
    "Refusal",
    "parse_fault",
]
