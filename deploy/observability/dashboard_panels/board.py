"""Places panels on a dashboard, in the JSON of Grafana."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
HEIGHT = 8


class Dashboard:
    """The panels, placed from left to right and from top to bottom, under their rows."""

    def __init__(self):
        self.panels = []
        self.x = self.y = 0
        self.row_height = 0

    def row(self, title):
        self.wrap()
        self.panels.append(
            {
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": self.y},
                "id": self.next_id(),
                "panels": [],
                "title": title,
                "type": "row",
            }
        )
        self.y += 1

    def graph(
        self, title, description, *queries, unit="short", width=8, stack=False, limit=None, minimum=0, maximum=None
    ):
        """Adds a time series panel. A query is PromQL and the legend of its lines; a line turns red at `limit`."""
        custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
        if stack:
            custom |= {"fillOpacity": 40, "stacking": {"group": "A", "mode": "normal"}}
        steps = [{"color": "green", "value": None}]
        if limit is not None:
            steps.append({"color": "red", "value": limit})
            custom["thresholdsStyle"] = {"mode": "line"}
        defaults = {"custom": custom, "thresholds": {"mode": "absolute", "steps": steps}, "unit": unit}
        if minimum is not None:
            defaults["min"] = minimum
        if maximum is not None:
            defaults["max"] = maximum
        options = {
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        self.panel("timeseries", title, description, queries, defaults, options, width, HEIGHT)

    def stat(self, title, description, query, unit="short", steps=((None, "green"),), width=4):
        """Adds a panel with one number, in the colour of the last step that it has reached."""
        colours = [{"color": colour, "value": value} for value, colour in steps]
        defaults = {"thresholds": {"mode": "absolute", "steps": colours}, "unit": unit}
        options = {
            "colorMode": "background",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        }
        self.panel("stat", title, description, [(query, "")], defaults, options, width, 4)

    def table(self, title, description, query, width=24):
        """Adds a table with the labels of the series that exist at the end of the time range."""
        self.panel("table", title, description, [(query, "")], {}, {"showHeader": True}, width, HEIGHT)
        panel = self.panels[-1]
        panel["targets"][0] |= {"format": "table", "instant": True, "range": False}
        panel["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": False}}}]

    def panel(self, kind, title, description, queries, defaults, options, width, height):
        if self.x + width > WIDTH:
            self.wrap()
        targets = [
            {
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": name or "__auto",
                "range": True,
                "refId": chr(ord("A") + index),
            }
            for index, (expression, name) in enumerate(queries)
        ]
        self.panels.append(
            {
                "datasource": SOURCE,
                "description": description,
                "fieldConfig": {"defaults": defaults, "overrides": []},
                "gridPos": {"h": height, "w": width, "x": self.x, "y": self.y},
                "id": self.next_id(),
                "options": options,
                "targets": targets,
                "title": title,
                "type": kind,
            }
        )
        self.x += width
        self.row_height = max(self.row_height, height)

    def wrap(self):
        self.x, self.y, self.row_height = 0, self.y + self.row_height, 0

    def next_id(self):
        return len(self.panels) + 1
