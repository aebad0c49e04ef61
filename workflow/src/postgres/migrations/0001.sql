-- Ids are 24 hex digits, times are microseconds since 1970. Texts compare by bytes.
-- A head is rewritten by every drain: room on its page keeps that from touching the indexes.
CREATE TABLE workflows (
    id text COLLATE "C" PRIMARY KEY,
    engine text NOT NULL,
    execution text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    events bigint NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    finished bigint,
    -- The earliest timer.
    due bigint,
    -- Being deleted.
    doomed boolean NOT NULL DEFAULT false,
    body text NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX workflows_execution ON workflows (execution);
CREATE INDEX workflows_live ON workflows (id) WHERE finished IS NULL;
CREATE INDEX workflows_finished ON workflows (finished, id) WHERE finished IS NOT NULL;
CREATE INDEX workflows_status ON workflows (status, id);
CREATE INDEX workflows_due ON workflows (due) WHERE due IS NOT NULL;

CREATE TABLE tasks (
    workflow text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    route bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (workflow, seq)
) WITH (fillfactor = 80);
CREATE INDEX tasks_id ON tasks (id);
CREATE INDEX tasks_latest ON tasks (workflow, task, route, seq);
CREATE INDEX tasks_status ON tasks (workflow, status, seq);

CREATE TABLE items (
    workflow text COLLATE "C" NOT NULL,
    task bigint NOT NULL,
    item bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (workflow, task, item)
) WITH (fillfactor = 80);
CREATE INDEX items_status ON items (workflow, task, status, item);

CREATE TABLE cells (
    workflow text COLLATE "C" NOT NULL,
    space text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (workflow, space, key)
) WITH (fillfactor = 80);

CREATE TABLE events (
    workflow text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    kind text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (workflow, seq)
);

-- Append-only: a used message keeps its row, so that it is known when it comes again, and loses its body.
CREATE TABLE inbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    -- The head's revision that used it.
    used bigint,
    body text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX inbox_message ON inbox (workflow, source, attempt, kind);
CREATE INDEX inbox_unused ON inbox (workflow, seq) WHERE used IS NULL;

CREATE TABLE outbox (
    workflow text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    due bigint NOT NULL,
    -- When a relay may take it: due, or the end of the time that another one holds it.
    at bigint NOT NULL,
    tries bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (workflow, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX outbox_at ON outbox (at);

CREATE TABLE timers (
    workflow text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    due bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (workflow, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX timers_due ON timers (workflow, due);

CREATE TABLE documents (
    workflow text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (workflow, key)
);
CREATE TABLE chunks (
    workflow text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    chunk bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (workflow, key, chunk)
);
-- They are compressed already.
ALTER TABLE chunks ALTER COLUMN data SET STORAGE EXTERNAL;
