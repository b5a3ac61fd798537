"""Grafana's JSON for what build.py describes: panels from left to right, and variables."""

import itertools
import string

COLUMNS = 24
HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# The beginnings of selectors, as in `up{coordinator, job="x"}`.
SELECTORS = {
    "{coordinator": '{cluster=~"$cluster", instance=~"$instance"',
    "{service": '{cluster=~"$cluster", instance=~"$instance", model_name=~"$model"',
    "{link": '{cluster=~"$cluster", instance=~"$instance", worker=~"$worker"',
    "{process": '{cluster=~"$cluster", worker=~"$worker"',
}
VARIABLES = {
    "cluster": "label_values(pregate_build_info, cluster)",
    "instance": 'label_values(vllm:num_requests_running{cluster=~"$cluster"}, instance)',
    "model": 'label_values(vllm:num_requests_running{cluster=~"$cluster"}, model_name)',
    "worker": 'label_values(pregate_worker_up{cluster=~"$cluster"}, worker)',
}


def target(ref_id, expr, legend):
    for short, full in SELECTORS.items():
        expr = expr.replace(short, full)
    return {
        "refId": ref_id,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "legendFormat": legend,
        "range": True,
    }


def panel(kind, title, description, queries, unit, width):
    """`queries`: legends and their expressions."""
    targets = [
        target(ref_id, expr, legend)
        for ref_id, (legend, expr) in zip(string.ascii_uppercase, queries.items())
    ]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": width},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def graph(title, description, queries, unit="short", *, stacked=False, width=8):
    """Lines over time. `unit`: one of Grafana's; percentunit is a share from 0 to 1."""
    made = panel("timeseries", title, description, queries, unit, width)
    defaults = made["fieldConfig"]["defaults"]
    if unit == "percentunit":
        defaults["max"] = 1
    defaults["custom"] = {
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none"},
    }
    made["options"] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def quantiles(title, description, histogram, unit="s", *, by="", width=8):
    """Median, 95th and 99th percentile of a histogram; of each `by` the 95th alone."""
    if by:
        expr = f"histogram_quantile(0.95, sum by (le, {by}) (rate({histogram}[$__rate_interval])))"
        return graph(title, description, {"{{" + by + "}}": expr}, unit, width=width)
    total = f"sum by (le) (rate({histogram}[$__rate_interval]))"
    queries = {f"p{part}": f"histogram_quantile(0.{part}, {total})" for part in (50, 95, 99)}
    return graph(title, description, queries, unit, width=width)


def timeline(title, description, queries, texts, *, width=12):
    """A bar per series; `texts`: value to its text and colour."""
    made = panel("state-timeline", title, description, queries, "short", width)
    mapped = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    made["fieldConfig"]["defaults"]["mappings"] = [{"type": "value", "options": mapped}]
    made["options"] = {
        "mergeValues": True,
        "showValue": "never",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    }
    return made


def matrix(title, description, expr, rows, columns, *, width=COLUMNS):
    """A coloured table of the labels `rows` by `columns`, over the dashboard's whole time."""
    made = panel("table", title, description, {"": expr}, "short", width)
    made["targets"][0] |= {"format": "table", "instant": True, "range": False}
    made["gridPos"]["h"] = 2 * HEIGHT
    defaults = made["fieldConfig"]["defaults"]
    defaults["color"] = {"mode": "continuous-BlYlRd"}
    defaults["decimals"] = 0
    defaults["custom"] = {"align": "center", "cellOptions": {"type": "color-background"}}
    corner = f"{rows}\\{columns}"
    plain = {"id": "custom.cellOptions", "value": {"type": "auto"}}
    made["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": corner}, "properties": [plain]}
    ]
    numbers = [{"targetField": name, "destinationType": "number"} for name in (rows, columns)]
    made["transformations"] = [
        {"id": "convertFieldType", "options": {"conversions": numbers}},
        {"id": "sortBy", "options": {"sort": [{"field": columns}]}},
        {"id": "sortBy", "options": {"sort": [{"field": rows}]}},
        {
            "id": "groupingToMatrix",
            "options": {"rowField": rows, "columnField": columns, "valueField": "Value"},
        },
    ]
    made["options"] = {"cellHeight": "sm", "showHeader": True}
    return made


def lay_out(rows):
    """`rows`: titles and their panels. Gives all of them numbers and places."""
    number, y = itertools.count(1), 0
    for title, panels in rows.items():
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        yield {
            "id": next(number),
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        x, y, height = 0, y + 1, 0
        for each in panels:
            size = each["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y, height = 0, y + height, 0
            yield {"id": next(number), **each, "gridPos": {**size, "x": x, "y": y}}
            x, height = x + size["w"], max(height, size["h"])
        y += height


def variable(name):
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": VARIABLES[name], "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Also what has no such label, as with a scrape configuration that gives none.
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name, description, variables, rows):
    datasource = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    others = {
        "type": "dashboards",
        "title": "Pregate",
        "tags": ["pregate"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }
    return {
        "uid": f"pregate-{name.lower()}",
        "title": f"Pregate: {name}",
        "description": description,
        "tags": ["pregate"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [others],
        "templating": {"list": [datasource, *map(variable, variables)]},
        "annotations": {"list": []},
        "panels": list(lay_out(rows)),
    }
