#!/usr/bin/env python3
"""Writes the dashboards in dashboards/, which Grafana reads as they are. A test checks that the
files are what this program writes, and another that a running cluster has data for each query."""

import json
import pathlib

from panels import dashboard, graph, matrix, quantiles, timeline

FOLDER = pathlib.Path(__file__).resolve().parent / "dashboards"


def rate(counter):
    return f"rate({counter}[$__rate_interval])"


def total(counter, by=""):
    return f"sum by ({by}) ({rate(counter)})" if by else f"sum({rate(counter)})"


def recent(counter, by=""):
    """What was counted in the last five minutes."""
    increase = f"(increase({counter}[5m]))"
    return f"sum by ({by}) {increase}" if by else f"sum{increase}"


def mean(histogram, selector):
    return f"{total(f'{histogram}_sum{selector}')} / {total(f'{histogram}_count{selector}')}"


def load():
    return [
        graph(
            "Running and waiting",
            "Requests in the running batch, and accepted ones that are not in it.",
            {
                "running": "sum(vllm:num_requests_running{service})",
                "waiting": "sum(vllm:num_requests_waiting{service})",
            },
        ),
        graph(
            "Tokens per second",
            "Prompt tokens computed and tokens generated.",
            {
                "prompt": total("vllm:prompt_tokens_total{service}"),
                "generated": total("vllm:generation_tokens_total{service}"),
            },
        ),
        graph(
            "Tokens of a step",
            "On average: how full steps are.",
            {"tokens": mean("vllm:iteration_tokens_total", "{service}")},
        ),
        graph(
            "How requests ended",
            "Finish reasons; abort: the client left.",
            {
                "{{finished_reason}}": total(
                    "vllm:request_success_total{service}", by="finished_reason"
                )
            },
            "reqps",
        ),
        graph(
            "Requests by status",
            "HTTP status of API requests.",
            {
                "{{status}}": total(
                    'http_requests_total{coordinator, handler=~"/v1/.+"}', by="status"
                )
            },
            "reqps",
        ),
        graph(
            "Failing requests",
            "Share of API requests that are answered with 500 or above, over five minutes.",
            {"{{instance}}": "pregate:api_errors:ratio_rate5m{coordinator}"},
            "percentunit",
        ),
    ]


def latency():
    return [
        quantiles(
            "Time to first token",
            "From arrival.",
            "vllm:time_to_first_token_seconds_bucket{service}",
        ),
        quantiles(
            "Between two tokens",
            "Inter-token latency.",
            "vllm:inter_token_latency_seconds_bucket{service}",
        ),
        quantiles(
            "Whole request",
            "End-to-end latency: from arrival to the last token.",
            "vllm:e2e_request_latency_seconds_bucket{service}",
        ),
        graph(
            "Where a request's time goes",
            "On average.",
            {
                phase: mean(f"vllm:request_{phase}_time_seconds", "{service}")
                for phase in ("queue", "prefill", "decode")
            },
            "s",
            stacked=True,
        ),
        graph(
            "Queue time",
            "95th percentile over five minutes, of requests that have ended.",
            {"{{instance}}": "pregate:request_queue_seconds:p95_rate5m{service}"},
            "s",
        ),
        graph(
            "Length of requests",
            "On average.",
            {
                "prompt": mean("vllm:request_prompt_tokens", "{service}"),
                "generated": mean("vllm:request_generation_tokens", "{service}"),
            },
        ),
    ]


def kv_cache():
    return [
        graph(
            "KV cache",
            "Share of the blocks that running sequences use.",
            {"{{instance}}": "vllm:kv_cache_usage_perc{service}"},
            "percentunit",
        ),
        graph(
            "Preemptions",
            "Requests put back into the queue because the KV cache was full.",
            {"preemptions": total("vllm:num_preemptions_total{service}")},
            "reqps",
        ),
        graph(
            "Prefix cache hits",
            "Share of prompt tokens found in the KV cache, over five minutes.",
            {"{{instance}}": "pregate:prefix_cache_hits:ratio_rate5m{service}"},
            "percentunit",
        ),
    ]


def service():
    return dashboard(
        "Service",
        "What clients get. The vllm: metrics mean what they mean in vLLM.",
        ["cluster", "instance", "model"],
        {"Load": load(), "Latency": latency(), "KV cache": kv_cache()},
    )


def routing():
    return [
        matrix(
            "Tokens by layer and expert",
            "Tokens routed to each expert in the dashboard's time. Needs --per-expert-metrics.",
            "sum by (layer, expert) (increase(pregate_expert_tokens_total{coordinator}[$__range]))",
            rows="layer",
            columns="expert",
        ),
        graph(
            "Balancedness by layer",
            "Mean over largest number of tokens of an expert, over five minutes: 1 is even. "
            "Needs --per-expert-metrics.",
            {"layer {{layer}}": "pregate:expert_tokens:balancedness_rate5m{coordinator}"},
            "percentunit",
        ),
        graph(
            "Experts of a step",
            "Distinct experts that the rows of a step go to in one layer, on average.",
            {"experts": mean("pregate_step_experts", "{coordinator}")},
        ),
        graph(
            "Replicas",
            "Experts held by so many workers. Those held by one only have to be loaded elsewhere "
            "when it dies.",
            {
                "{{replicas}} replicas": "sum by (replicas) "
                "(pregate_experts_with_replicas{coordinator})"
            },
            stacked=True,
        ),
    ]


def expert_cache():
    return [
        graph(
            "Cache hits",
            "Share of the experts that batches need which are in memory, over five minutes. "
            "With --expert-memory only, as all of this row.",
            {"{{worker}}": "pregate:expert_cache_hits:ratio_rate5m{process}"},
            "percentunit",
        ),
        quantiles(
            "Waits for loads",
            "How long batches stand still until experts are loaded: 95th percentile, of those "
            "that do.",
            "pregate_expert_cache_wait_seconds_bucket{process}",
            by="worker",
        ),
        graph(
            "Time lost to loads",
            "Share of the time in which a batch stands still for experts.",
            {"{{worker}}": rate("pregate_expert_cache_wait_seconds_sum{process}")},
            "percentunit",
        ),
        graph(
            "Loads by cause",
            "demand: a batch waited for it; prefetch: ahead of need.",
            {"{{cause}}": total("pregate_expert_cache_loads_total{process}", by="cause")},
            "ops",
        ),
        graph(
            "Evictions",
            "In vain: prefetched, and evicted before any use.",
            {
                "all": total("pregate_expert_cache_evictions_total{process}"),
                "in vain": total("pregate_expert_cache_unused_prefetches_total{process}"),
            },
            "ops",
        ),
        graph(
            "Memory for experts",
            "In use, as a share of --expert-memory.",
            {
                "{{worker}}": "pregate_expert_cache_resident_bytes{process} "
                "/ pregate_expert_cache_budget_bytes{process}"
            },
            "percentunit",
        ),
    ]


def lookahead():
    return [
        graph(
            "Look-ahead hits: precision",
            "Share of the guesses that come true, over five minutes. With --lookahead only, as "
            "all of this row.",
            {"{{source}}": "pregate:lookahead_hits:precision_rate5m{coordinator}"},
            "percentunit",
        ),
        graph(
            "Look-ahead hits: recall",
            "Share of the needed experts that were guessed, over five minutes.",
            {"{{source}}": "pregate:lookahead_hits:recall_rate5m{coordinator}"},
            "percentunit",
        ),
        timeline(
            "Followed",
            "Whether the guesses are good enough to be followed.",
            {"{{source}}": "pregate_lookahead_active{coordinator}"},
            {1: ("followed", "green"), 0: ("not followed", "orange")},
            width=8,
        ),
    ]


def experts():
    return dashboard(
        "Experts",
        "Who is routed to, and whether experts are there when they are needed.",
        ["cluster", "instance", "worker"],
        {
            "Routing": routing(),
            "Less memory than experts": expert_cache(),
            "Look-ahead": lookahead(),
        },
    )


def workers():
    return [
        graph(
            "Workers by state",
            "As the coordinator sees them.",
            {"{{state}}": "sum by (state) (pregate_workers{coordinator})"},
            stacked=True,
        ),
        timeline(
            "Who answers",
            "A worker that is suspect or dead does not.",
            {"{{worker}}": "pregate_worker_up{link}"},
            {1: ("answers", "green"), 0: ("does not answer", "red")},
            width=16,
        ),
        graph(
            "Heartbeats",
            "Heard of each worker per second; --heartbeat-interval says how many are sent.",
            {"{{worker}}": rate("pregate_worker_heartbeats_total{link}")},
            "ops",
        ),
        graph(
            "Failures",
            "How often a worker became suspect or dead in the last five minutes.",
            {
                "{{worker}} {{state}}": "increase(pregate_worker_state_changes_total"
                '{link, state=~"suspect|dead"}[5m])'
            },
        ),
        graph(
            "Not let in",
            "Connections refused in the last five minutes, by reason.",
            {"{{reason}}": recent("pregate_join_refusals_total{coordinator}", by="reason")},
        ),
    ]


def requests():
    return [
        graph(
            "Lost requests",
            "Accepted, and ended with an error because experts could not be reached; in five "
            "minutes.",
            {"lost": recent("pregate_requests_lost_total{coordinator}")},
        ),
        graph(
            "Recovered",
            "In five minutes. Batches that another worker computed in place of the first, and "
            "sequences that waited for a missing expert and went on.",
            {
                "batches": recent("pregate_dispatch_resent_total{coordinator}"),
                "sequences": recent("pregate_expert_wait_seconds_count{coordinator}"),
            },
        ),
        graph(
            "Batches sent again",
            "Per second, because the first worker was lost, quiet or late, or refused.",
            {"{{reason}}": total("pregate_dispatch_resent_total{coordinator}", by="reason")},
            "ops",
        ),
        graph(
            "Experts out of reach",
            "Missing: no live worker holds them. Unanswered: only suspects hold them.",
            {
                "missing": "sum(pregate_missing_experts{coordinator})",
                "unanswered": "sum(pregate_unanswered_experts{coordinator})",
            },
        ),
        graph(
            "Sequences that wait for experts",
            "Set aside now, because no worker holds an expert that they need.",
            {"waiting": "sum(pregate_sequences_waiting_for_experts{coordinator})"},
        ),
    ]


def links():
    return [
        quantiles(
            "Time of a dispatch",
            "From sending to the whole reply: 95th percentile.",
            "pregate_dispatch_seconds_bucket{link}",
            by="worker",
        ),
        graph(
            "Time on the way",
            "Of a dispatch, on average: what is not computing, so network and queue.",
            {
                "{{worker}}": f"({rate('pregate_dispatch_seconds_sum{link}')} "
                f"- {rate('pregate_dispatch_compute_seconds_total{link}')}) "
                f"/ {rate('pregate_dispatch_seconds_count{link}')}"
            },
            "s",
        ),
        graph(
            "Bytes",
            "Payload to and from each worker.",
            {"{{worker}} {{direction}}": rate("pregate_dispatch_bytes_total{link}")},
            "Bps",
        ),
        graph(
            "Rows by worker",
            "Token rows sent to each worker.",
            {"{{worker}}": rate("pregate_worker_tokens_total{link}")},
            "rowsps",
        ),
        graph(
            "Requests at the workers",
            "Waiting there, as the last heartbeat said.",
            {"{{worker}}": "pregate_worker_reported_queue_depth{link}"},
        ),
        graph(
            "Time spent computing",
            "Share of the time in which a worker computes experts.",
            {"{{worker}}": rate("pregate_expert_compute_seconds_total{process}")},
            "percentunit",
        ),
    ]


def placement():
    return [
        graph(
            "Imbalance",
            "The busiest worker's share of the rows over what its speed makes its due: 1 is "
            "perfect.",
            {"{{instance}}": "pregate_imbalance{coordinator}"},
        ),
        graph(
            "Balancedness of the workers",
            "Mean over largest number of rows of a worker, over five minutes, whatever their "
            "speed.",
            {"{{instance}}": "pregate:worker_tokens:balancedness_rate5m{coordinator}"},
            "percentunit",
        ),
        graph(
            "Rebalances",
            "Ended in the last five minutes, by outcome.",
            {"{{outcome}}": recent("pregate_rebalances_total{coordinator}", by="outcome")},
        ),
        graph(
            "Replicas still to load",
            "For the rebalance under way.",
            {"{{instance}}": "pregate_rebalance_left_replicas{coordinator}"},
        ),
        graph(
            "Expert loads",
            "Experts loaded by each worker per second, and attempts that failed.",
            {
                "{{worker}}": rate("pregate_expert_loads_total{process}"),
                "{{worker}} failed": rate("pregate_expert_load_errors_total{process}"),
            },
            "ops",
        ),
        graph(
            "Experts held",
            "By each worker.",
            {"{{worker}}": "pregate_worker_experts{link}"},
            stacked=True,
        ),
    ]


def processes():
    return [
        graph(
            "Processors",
            "Cores in use by each process.",
            {"{{job}} {{instance}}": rate('process_cpu_seconds_total{cluster=~"$cluster"}')},
        ),
        graph(
            "Memory",
            "Resident, mapped checkpoint pages included.",
            {"{{job}} {{instance}}": 'process_resident_memory_bytes{cluster=~"$cluster"}'},
            "bytes",
        ),
        graph(
            "Experts that wait for room",
            "To load, when others have been dropped.",
            {"{{worker}}": "pregate_experts_waiting_for_room{process}"},
        ),
    ]


def cluster():
    return dashboard(
        "Cluster",
        "Workers, the links to them, and where experts are.",
        ["cluster", "instance", "worker"],
        {
            "Workers": workers(),
            "Requests": requests(),
            "Links and workers": links(),
            "Placement": placement(),
            "Processes": processes(),
        },
    )


def files():
    """Contents by name."""
    made = {"service": service(), "experts": experts(), "cluster": cluster()}
    return {f"{name}.json": json.dumps(each, indent=2) + "\n" for name, each in made.items()}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
