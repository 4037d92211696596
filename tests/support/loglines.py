"""A line of each kind that stands in the logs of a stack, of one instant."""

TEXT = "2026-03-01T12:00:04.277Z WARNING task t-1: its worker is silent (state=running)"
JSON = (
    '{"time":"2026-03-01T12:00:04.277Z","level":"DEBUG",'
    '"message":"task t-1 succeeded","task_id":"t-1"}'
)
SERVER = "[77] 2026/03/01 12:00:04.277123 [ERR] Publish Violation"
