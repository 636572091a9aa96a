"""The executors that come with the package, one for each type of step that is not a person's or a custom one."""

from __future__ import annotations

from resilient._registry import Registry
from resilient.orchestrator.executor import StepExecutor
from resilient.orchestrator.executors.cache_clear import CacheClearExecutor
from resilient.orchestrator.executors.configuration_update import ConfigurationUpdateExecutor
from resilient.orchestrator.executors.data_validation import DataValidationExecutor
from resilient.orchestrator.executors.database_restore import DatabaseRestoreExecutor
from resilient.orchestrator.executors.failures import ActionFailedError, ActionStoppedError
from resilient.orchestrator.executors.health_check import HealthCheckExecutor
from resilient.orchestrator.executors.service_restart import ServiceRestartExecutor
from resilient.orchestrator.model import RecoveryStepType

__all__ = [
    "ActionFailedError",
    "ActionStoppedError",
    "CacheClearExecutor",
    "ConfigurationUpdateExecutor",
    "DataValidationExecutor",
    "DatabaseRestoreExecutor",
    "HealthCheckExecutor",
    "ServiceRestartExecutor",
    "shipped",
]


def shipped(registry: Registry | None = None) -> dict[RecoveryStepType, StepExecutor]:
    """An executor for each shipped type of step; `registry` is where cache_clear looks up names."""
    return {
        RecoveryStepType.HEALTH_CHECK: HealthCheckExecutor(),
        RecoveryStepType.SERVICE_RESTART: ServiceRestartExecutor(),
        RecoveryStepType.CACHE_CLEAR: CacheClearExecutor(registry),
        RecoveryStepType.CONFIGURATION_UPDATE: ConfigurationUpdateExecutor(),
        RecoveryStepType.DATA_VALIDATION: DataValidationExecutor(),
        RecoveryStepType.DATABASE_RESTORE: DatabaseRestoreExecutor(),
    }
