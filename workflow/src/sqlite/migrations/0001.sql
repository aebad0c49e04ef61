-- Ids are 24 hex digits, times are microseconds since 1970.
CREATE TABLE workflows (
    id TEXT PRIMARY KEY,
    engine TEXT NOT NULL,
    execution TEXT NOT NULL,
    status TEXT NOT NULL,
    rev INTEGER NOT NULL,
    events INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    finished INTEGER,
    -- The earliest timer.
    due INTEGER,
    -- Being deleted.
    doomed INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX workflows_execution ON workflows (execution);
CREATE INDEX workflows_live ON workflows (id) WHERE finished IS NULL;
CREATE INDEX workflows_finished ON workflows (finished, id) WHERE finished IS NOT NULL;
CREATE INDEX workflows_status ON workflows (status, id);
CREATE INDEX workflows_due ON workflows (due) WHERE due IS NOT NULL;

CREATE TABLE tasks (
    workflow TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    task TEXT NOT NULL,
    route INTEGER NOT NULL,
    status TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workflow, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_id ON tasks (id);
CREATE INDEX tasks_latest ON tasks (workflow, task, route, seq);
CREATE INDEX tasks_status ON tasks (workflow, status, seq);

CREATE TABLE items (
    workflow TEXT NOT NULL,
    task INTEGER NOT NULL,
    item INTEGER NOT NULL,
    status TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workflow, task, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX items_status ON items (workflow, task, status, item);

CREATE TABLE cells (
    workflow TEXT NOT NULL,
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workflow, space, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    workflow TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workflow, seq)
) STRICT, WITHOUT ROWID;

-- Append-only: a used message keeps its row, so that it is known when it comes again, and loses its body.
CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow TEXT NOT NULL,
    source TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- The head's revision that used it.
    used INTEGER,
    body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbox_message ON inbox (workflow, source, attempt, kind);
CREATE INDEX inbox_unused ON inbox (workflow, seq) WHERE used IS NULL;

CREATE TABLE outbox (
    workflow TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    due INTEGER NOT NULL,
    -- When a relay may take it: due, or the end of the time that another one holds it.
    at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workflow, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_at ON outbox (at);

CREATE TABLE timers (
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    due INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workflow, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX timers_due ON timers (workflow, due);

CREATE TABLE documents (
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    size INTEGER NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (workflow, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE chunks (
    workflow TEXT NOT NULL,
    key TEXT NOT NULL,
    chunk INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX chunks_key ON chunks (workflow, key, chunk);
