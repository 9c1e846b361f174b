"""The shapes of policy files: services, policies, scalers, failovers, silences, grants. Unknown keys are errors.

These pydantic models are the contract between the files that users write and the code that decides; the JSON schema is printed from them.
Durations are written as `5m` and held as integer milliseconds (`*_ms` fields take the YAML key without `_ms`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.model.duration import parse_duration_ms
from pipeline.model.target import Target


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration_ms(value)
    if value == 0 and not isinstance(value, bool):
        return 0
    raise ValueError("write a duration with its unit, for example 30s or 5m")


def _target(value: Any) -> Any:
    return str(Target.parse(value)) if isinstance(value, str) else value


DurationMs = Annotated[int, BeforeValidator(_duration), Field(json_schema_extra={"type": "string", "examples": ["30s", "5m"]})]
TargetText = Annotated[str, BeforeValidator(_target)]
Mode = Literal["off", "observe", "propose", "enforce"]
Verb = Literal["scale", "shift_traffic", "roll_back", "fail_over", "fail_back", "restart", "deploy", "block", "notify", "call"]


class Spec(BaseModel):
    """Base: frozen, no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


# --- the catalogue -------------------------------------------------------------------------------------------------------------------


class Replicas(Spec):
    """Bounds that no action crosses."""

    min: int = Field(default=1, ge=0)
    max: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Limits(Spec):
    """Limits of one service. `replicas` counts per workload."""

    replicas: Replicas | None = None


class Site(Spec):
    """One place where a service runs. `capacity_per_replica`: requests/s one replica can serve (for headroom)."""

    name: str
    workload: TargetText | None = None
    route: TargetText | None = None
    capacity_per_replica: float | None = Field(default=None, gt=0)


class Backend(Spec):
    """One version or variant that traffic is split over. `workload`: where this version runs when it has a workload of its own."""

    name: str
    weight: int = Field(default=0, ge=0, le=100)
    workload: TargetText | None = None


class Service(Spec):
    """A service: which alerts speak of it (`match`, exact labels) and what of it can be changed.

    Targets: `route` (weights over backends), `sites_target` (shares over sites), `blocklist` (addresses refused at its edge).
    """

    name: str
    match: dict[str, str] = Field(min_length=1)
    sites: tuple[Site, ...] = ()
    backends: tuple[Backend, ...] = ()
    route: TargetText | None = None
    sites_target: TargetText | None = None
    blocklist: TargetText | None = None
    limits: Limits = Limits()
    depends_on: tuple[str, ...] = ()
    group: str = ""  # services that fail over together share one; default: the service's own name

    @property
    def group_name(self) -> str:
        """The unit in which its actions may collide."""
        return self.group or self.name


# --- policies ------------------------------------------------------------------------------------------------------------------------


class MinVolume(Spec):
    """Below this a measurement proves nothing."""

    expr: str
    at_least: float


class Verify(Spec):
    """How the effect of a step is measured. Either `success` (and `failure`) conditions, or `alert: resolved_by_value`.

    Anchored at apply + `settle`: only later samples count. `count` true measurements in a row succeed; more than `failure_limit` failed ones fail;
    more than `inconclusive_limit` without data are inconclusive; so is reaching `within`.
    """

    success: str | None = None
    failure: str | None = None
    alert: Literal["resolved_by_value"] | None = None
    settle_ms: DurationMs = Field(default=0, alias="settle")
    interval_ms: DurationMs = Field(default=1000, alias="interval", gt=0)
    count: int = Field(default=1, ge=1)
    failure_limit: int = Field(default=0, ge=0)
    inconclusive_limit: int = Field(default=5, ge=0)
    min_volume: MinVolume | None = None
    within_ms: DurationMs = Field(default=120_000, alias="within", gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> Verify:
        if (self.success is None) == (self.alert is None):
            raise ValueError("write exactly one of success (an expression) and alert: resolved_by_value")
        return self


class ShiftTraffic(Spec):
    """Move weight away from a backend (the rest gets its share), or set weights outright. `target`: the service's route unless named."""

    away_from: dict[Literal["version", "backend"], str] | None = None
    weights: dict[str, int] | None = None
    to_percent: int = Field(default=0, ge=0, le=100)  # what the backend keeps
    target: TargetText | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ShiftTraffic:
        if (self.away_from is None) == (self.weights is None):
            raise ValueError("write exactly one of away_from and weights")
        if self.weights is not None and sum(self.weights.values()) != 100:
            raise ValueError(f"weights sum to {sum(self.weights.values())}, not 100")
        return self


class RollBack(Spec):
    """Replace a version. `version`: the bad one (a template; default the alert's `version` label); `to`: `previous` or a version."""

    to: str = "previous"
    version: str = "{{ version }}"
    target: TargetText | None = None


class Scale(Spec):
    """Set the number of replicas of a workload, inside the service's limits."""

    replicas: int = Field(ge=0)
    site: str | None = None
    target: TargetText | None = None


class FailOver(Spec):
    """Move traffic away from a site (a template), into measured headroom."""

    away_from: str = "{{ site }}"
    target: TargetText | None = None


class Restart(Spec):
    """Restart a workload, once per action."""

    site: str | None = None
    target: TargetText | None = None


class Deploy(Spec):
    """Run a version."""

    version: str
    target: TargetText | None = None


class Block(Spec):
    """Refuse an address at the edge, always with an end. `address`: a template; `target`: the service's blocklist unless named."""

    address: str = "{{ source_ip }}"
    duration_ms: DurationMs = Field(default=900_000, alias="for", gt=0)
    never_block: tuple[str, ...] = ()
    max_blocked: int = Field(default=100, ge=1)
    target: TargetText | None = None


class Notify(Spec):
    """Tell a receiver of the configuration."""

    to: str = "default"
    text: str = ""


class Call(Spec):
    """POST to a webhook connector."""

    target: TargetText
    payload: dict[str, Any] = {}


class Step(Spec):
    """One rung: exactly one verb, how to verify it, and what follows."""

    shift_traffic: ShiftTraffic | None = None
    roll_back: RollBack | None = None
    scale: Scale | None = None
    fail_over: FailOver | None = None
    restart: Restart | None = None
    deploy: Deploy | None = None
    block: Block | None = None
    notify: Notify | None = None
    call: Call | None = None
    verify: Verify | None = None
    on_failure: Literal["revert", "next", "keep"] | None = None  # default: revert for traffic, keep for the rest
    on_inconclusive: Literal["hold", "next", "revert"] = "hold"
    then: Literal["next", "stop"] = "stop"
    deadline_ms: DurationMs = Field(default=10_000, alias="deadline", gt=0)

    @model_validator(mode="after")
    def _one_verb(self) -> Step:
        given = [verb for verb in STEP_VERBS if getattr(self, verb) is not None]
        if len(given) != 1:
            raise ValueError(f"a step has exactly one verb, this one has {', '.join(given) or 'none'} (verbs: {', '.join(STEP_VERBS)})")
        return self

    @property
    def verb(self) -> str:
        """The verb that is set."""
        return next(verb for verb in STEP_VERBS if getattr(self, verb) is not None)


STEP_VERBS = ("shift_traffic", "roll_back", "scale", "fail_over", "restart", "deploy", "block", "notify", "call")


class Attempts(Spec):
    """At most `max` runs of the policy in the window, then escalate."""

    max: int = Field(default=3, ge=1)
    per_ms: DurationMs = Field(default=3_600_000, alias="per", gt=0)


class BudgetSpec(Spec):
    """Distinct targets touched in the window, absolute and as percent of the service's targets (floor, at least 1)."""

    targets: int | None = Field(default=None, ge=1)
    percent: float | None = Field(default=None, gt=0, le=100)
    per_ms: DurationMs = Field(default=600_000, alias="per", gt=0)


class Guard(Spec):
    """What may hold a policy back. Keyed by (policy name, group): an edit resets nothing."""

    cooldown_ms: DurationMs = Field(default=300_000, alias="cooldown")
    attempts: Attempts = Attempts()
    budget: BudgetSpec | None = None
    ttl_ms: DurationMs = Field(default=120_000, alias="ttl", gt=0)


class Policy(Spec):
    """Which alerts may cause which actions under which guards.

    `when`: Alertmanager matchers, either a mapping (`label: value`, exact) or a list of matcher texts (`severity=~"crit.*"`).
    """

    name: str
    when: dict[str, str] | tuple[str, ...] = Field(min_length=1)
    mode: Mode = "observe"
    steps: tuple[Step, ...] = Field(min_length=1)
    guard: Guard = Guard()
    confirmations: int | None = Field(default=None, ge=1)  # default: 2 for an enforcing policy on an alert with `for: 0`, else 1
    allow_warming: bool = False
    priority: int = 0
    service: str | None = None  # default: the service that the alert's labels match


# --- controllers ---------------------------------------------------------------------------------------------------------------------


class ScalingPolicy(Spec):
    """HPA v2 scaling policy."""

    type: Literal["Pods", "Percent"]
    value: int = Field(gt=0)
    period_ms: DurationMs = Field(alias="period", gt=0)


class ScalingRules(Spec):
    """HPA v2 behaviour in one direction."""

    stabilization_ms: DurationMs | None = Field(default=None, alias="stabilization")
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    policies: tuple[ScalingPolicy, ...] = ()
    tolerance: float | None = Field(default=None, ge=0)


class Behavior(Spec):
    """HPA v2 behaviour; what is absent takes Kubernetes' defaults (up: at once, 4 pods or 100 % per 15 s; down: 300 s, 100 % per 15 s)."""

    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()


class ScalerMetric(Spec):
    """Demand: a PromQL value, and what one replica should carry (`target_average`) or what the value should be (`target_value`)."""

    expr: str
    target_average: float | None = Field(default=None, gt=0)
    target_value: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_target(self) -> ScalerMetric:
        if (self.target_average is None) == (self.target_value is None):
            raise ValueError("write exactly one of target_average and target_value")
        return self


class Scaler(Spec):
    """Keeps a workload's replicas at demand (HPA algorithm). Bounds: the service's `limits.replicas`. Missing data never scales down."""

    name: str
    service: str
    site: str | None = None  # default: the first site that has a workload
    target: TargetText | None = None
    metric: ScalerMetric
    tolerance: float = Field(default=0.1, ge=0)
    behavior: Behavior = Behavior()
    interval_ms: DurationMs = Field(default=15_000, alias="interval", gt=0)
    mode: Mode = "observe"
    guard: Guard = Guard(cooldown="0s", attempts=Attempts(max=1_000_000))  # type: ignore[arg-type]  # parsed by the validator


class FailBack(Spec):
    """How traffic comes home: percent shares of the preferred site, `pause` apart, after it was healthy for `after`."""

    steps: tuple[int, ...] = (25, 50, 100)
    pause_ms: DurationMs = Field(default=60_000, alias="pause")
    after_ms: DurationMs = Field(default=300_000, alias="after")

    @model_validator(mode="after")
    def _rising(self) -> FailBack:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[-1] != 100 or self.steps[0] < 1:
            raise ValueError("steps must rise from at least 1 and end with 100, for example [25, 50, 100]")
        return self


class Failover(Spec):
    """Moves a service from an unhealthy site to one with headroom, capacity first, and back in steps.

    `unhealthy`, `healthy`: conditions per site (`{{ site }}` is filled in). `demand`: requests/s that must be carried.
    """

    name: str
    service: str
    priority: tuple[str, ...] = Field(min_length=2)
    unhealthy: str
    healthy: str
    for_ms: DurationMs = Field(default=5000, alias="for")
    demand: str
    interval_ms: DurationMs = Field(default=1000, alias="interval", gt=0)
    fail_back: FailBack = FailBack()
    mode: Mode = "observe"
    guard: Guard = Guard(cooldown="1m")  # type: ignore[arg-type]  # parsed by the validator


# --- muting and grants ---------------------------------------------------------------------------------------------------------------


class Silence(Spec):
    """Mutes notices and holds actions of matching alerts inside [starts_at, ends_at) (RFC 3339)."""

    match: dict[str, str] | tuple[str, ...] = Field(min_length=1)
    starts_at: str
    ends_at: str
    comment: str = ""
    created_by: str = ""


class Inhibition(Spec):
    """While an alert matches `source`, those that match `target` with the same `equal` labels are muted and cause nothing."""

    source: dict[str, str] | tuple[str, ...] = Field(min_length=1)
    target: dict[str, str] | tuple[str, ...] = Field(min_length=1)
    equal: tuple[str, ...] = ()


class Maintenance(Spec):
    """A planned window in which a service is left alone."""

    service: str
    starts_at: str
    ends_at: str
    comment: str = ""


class GrantSpec(Spec):
    """What policies may do in a group: verbs (all when absent) and the highest mode. Belongs to the administrator's configuration."""

    verbs: tuple[Verb, ...] | None = None
    mode: Mode = "observe"


class PolicyFile(Spec):
    """Everything a policy file may hold."""

    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    scalers: tuple[Scaler, ...] = ()
    failovers: tuple[Failover, ...] = ()
    silences: tuple[Silence, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
