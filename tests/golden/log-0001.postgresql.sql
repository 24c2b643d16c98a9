SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE FUNCTION public.incumbent_chain() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN IF NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM decisions) OR NEW.prev_hash <> coalesce((SELECT hash FROM decisions ORDER BY seq DESC LIMIT 1), '0000000000000000000000000000000000000000000000000000000000000000') THEN RAISE EXCEPTION 'decisions: the row does not follow the last one' USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$;
CREATE FUNCTION public.incumbent_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.decisions (
    seq bigint NOT NULL,
    usecase text NOT NULL,
    kind text NOT NULL,
    payload text NOT NULL,
    actor text NOT NULL,
    at bigint NOT NULL,
    recorded_at bigint NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL
);
CREATE TABLE public.labels (
    label_id bigint NOT NULL,
    usecase text NOT NULL,
    event_id text NOT NULL,
    y smallint NOT NULL,
    observed_at bigint NOT NULL,
    source text NOT NULL,
    received_at bigint NOT NULL,
    stored_at bigint NOT NULL,
    CONSTRAINT ck_labels_y CHECK ((y = ANY (ARRAY[0, 1])))
);
CREATE SEQUENCE public.labels_label_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.labels_label_id_seq OWNED BY public.labels.label_id;
CREATE TABLE public.leases (
    name text NOT NULL,
    holder text NOT NULL,
    epoch bigint NOT NULL,
    acquired_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE TABLE public.operations (
    op_id text NOT NULL,
    usecase text NOT NULL,
    model text NOT NULL,
    kind text NOT NULL,
    from_version text,
    to_version text NOT NULL,
    previous_version text,
    evidence text NOT NULL,
    contract text NOT NULL,
    state text NOT NULL,
    epoch bigint NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    note text NOT NULL,
    at bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE public.plans (
    plan_id text NOT NULL,
    names text NOT NULL,
    stored_at bigint NOT NULL
);
CREATE TABLE public.predictions (
    row_id bigint NOT NULL,
    usecase text NOT NULL,
    event_id text NOT NULL,
    event_time bigint NOT NULL,
    received_at bigint NOT NULL,
    origin text NOT NULL,
    body bytea NOT NULL,
    plan_id text,
    features bytea,
    model text,
    version text,
    alias text,
    contract text,
    raw_score double precision,
    score double precision,
    threshold double precision,
    decision smallint,
    propensity double precision,
    stored_at bigint NOT NULL,
    CONSTRAINT ck_predictions_answered CHECK (((origin <> 'live'::text) OR ((score IS NOT NULL) AND (threshold IS NOT NULL) AND (decision IS NOT NULL) AND (model IS NOT NULL) AND (version IS NOT NULL)))),
    CONSTRAINT ck_predictions_origin CHECK ((origin = ANY (ARRAY['live'::text, 'history'::text, 'event'::text, 'late'::text]))),
    CONSTRAINT ck_predictions_raw_score CHECK (((raw_score >= (0)::double precision) AND (raw_score <= (1)::double precision))),
    CONSTRAINT ck_predictions_score CHECK (((score >= (0)::double precision) AND (score <= (1)::double precision)))
);
CREATE SEQUENCE public.predictions_row_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.predictions_row_id_seq OWNED BY public.predictions.row_id;
CREATE TABLE public.quarantine (
    quarantine_id bigint NOT NULL,
    usecase text NOT NULL,
    writer text NOT NULL,
    segment bigint NOT NULL,
    "position" bigint NOT NULL,
    seq bigint NOT NULL,
    records bigint NOT NULL,
    reason text NOT NULL,
    payload bytea NOT NULL,
    stored_at bigint NOT NULL
);
CREATE SEQUENCE public.quarantine_quarantine_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.quarantine_quarantine_id_seq OWNED BY public.quarantine.quarantine_id;
CREATE TABLE public.reports (
    report_id bigint NOT NULL,
    usecase text NOT NULL,
    kind text NOT NULL,
    model text,
    challenger text,
    as_of bigint NOT NULL,
    outcome text NOT NULL,
    payload text NOT NULL,
    digest text NOT NULL,
    html text,
    run_id text,
    stored_at bigint NOT NULL
);
CREATE SEQUENCE public.reports_report_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reports_report_id_seq OWNED BY public.reports.report_id;
CREATE TABLE public.roles (
    role_id bigint NOT NULL,
    seq bigint NOT NULL,
    usecase text NOT NULL,
    model text NOT NULL,
    role text NOT NULL,
    version text,
    contract text,
    at bigint NOT NULL,
    recorded_at bigint NOT NULL
);
CREATE SEQUENCE public.roles_role_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.roles_role_id_seq OWNED BY public.roles.role_id;
CREATE TABLE public.runs (
    run_id text NOT NULL,
    usecase text NOT NULL,
    flow text NOT NULL,
    state text NOT NULL,
    message text NOT NULL,
    as_of bigint,
    started_at bigint NOT NULL,
    ended_at bigint,
    payload text NOT NULL
);
CREATE TABLE public.served (
    usecase text NOT NULL,
    replica text NOT NULL,
    model text NOT NULL,
    version text,
    champion text,
    detail text NOT NULL,
    since bigint NOT NULL,
    seen_at bigint NOT NULL
);
CREATE TABLE public.shadow (
    usecase text NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    event_id text NOT NULL,
    role text NOT NULL,
    raw_score double precision,
    score double precision,
    threshold double precision,
    decision smallint,
    error text,
    scored_at bigint NOT NULL,
    CONSTRAINT ck_shadow_score CHECK (((score >= (0)::double precision) AND (score <= (1)::double precision))),
    CONSTRAINT ck_shadow_scored CHECK (((error IS NOT NULL) OR ((score IS NOT NULL) AND (decision IS NOT NULL))))
);
CREATE TABLE public.shadow_watches (
    usecase text NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    since bigint NOT NULL,
    low_row bigint DEFAULT '0'::bigint NOT NULL
);
CREATE TABLE public.spool_ledger (
    usecase text NOT NULL,
    writer text NOT NULL,
    segment bigint DEFAULT '0'::bigint NOT NULL,
    "position" bigint DEFAULT '0'::bigint NOT NULL,
    last_seq bigint DEFAULT '0'::bigint NOT NULL,
    stored bigint DEFAULT '0'::bigint NOT NULL,
    duplicates bigint DEFAULT '0'::bigint NOT NULL,
    labels bigint DEFAULT '0'::bigint NOT NULL,
    quarantined bigint DEFAULT '0'::bigint NOT NULL,
    gaps bigint DEFAULT '0'::bigint NOT NULL,
    dropped bigint DEFAULT '0'::bigint NOT NULL,
    torn bigint DEFAULT '0'::bigint NOT NULL,
    finished smallint DEFAULT '0'::smallint NOT NULL,
    updated_at bigint NOT NULL
);
ALTER TABLE ONLY public.labels ALTER COLUMN label_id SET DEFAULT nextval('public.labels_label_id_seq'::regclass);
ALTER TABLE ONLY public.predictions ALTER COLUMN row_id SET DEFAULT nextval('public.predictions_row_id_seq'::regclass);
ALTER TABLE ONLY public.quarantine ALTER COLUMN quarantine_id SET DEFAULT nextval('public.quarantine_quarantine_id_seq'::regclass);
ALTER TABLE ONLY public.reports ALTER COLUMN report_id SET DEFAULT nextval('public.reports_report_id_seq'::regclass);
ALTER TABLE ONLY public.roles ALTER COLUMN role_id SET DEFAULT nextval('public.roles_role_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.decisions VALUES (1, 'fraud', 'installation', '{"reason":"first","roles":[{"contract":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","model":"dev-fraud","role":"champion","version":"1"}]}', 'test', 1772409600000000, 1795206974102995, '0000000000000000000000000000000000000000000000000000000000000000', '4c38658850cc0d15ae69866e424b59a570a3c2d6822c1885d40f17f86d7a35eb');
INSERT INTO public.decisions VALUES (2, 'fraud', 'appointment', '{"reason":"first","roles":[{"contract":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","model":"dev-fraud","role":"challenger","version":"2"}]}', 'test', 1772409600000000, 1795206974127353, '4c38658850cc0d15ae69866e424b59a570a3c2d6822c1885d40f17f86d7a35eb', '7d2810e43926b697ce9235c4625dc3196856bdd0ed0bdc33b769cf5bfbf2c3b1');
INSERT INTO public.labels VALUES (1, 'fraud', 'e00001', 1, 1772496000000000, 'chargeback', 1772496000000000, 1772496000000000);
INSERT INTO public.plans VALUES ('plan-1', '["amount","count"]', 1);
INSERT INTO public.predictions VALUES (1, 'fraud', 'e00001', 1772409600000000, 1772409600000000, 'live', '\x7b226964223a22653030303031222c22616d6f756e74223a312e357d', 'plan-1', '\x0000803f00000040', 'dev-fraud', '1', 'champion', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 0.25, 0.2, 0.5, 0, NULL, 1772409600000000);
INSERT INTO public.predictions VALUES (2, 'fraud', 'e00002', 1772409600000000, 1772409600000000, 'live', '\x7b226964223a22653030303032222c22616d6f756e74223a322e357d', 'plan-1', '\x0000803f00000040', 'dev-fraud', '1', 'champion', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 0.25, 0.2, 0.5, 0, NULL, 1772409600000000);
INSERT INTO public.predictions VALUES (3, 'fraud', 'e00003', 1772496000000000, 1772496000000000, 'live', '\x7b226964223a22653030303033222c22616d6f756e74223a332e357d', 'plan-1', '\x0000803f00000040', 'dev-fraud', '1', 'champion', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 0.25, 0.2, 0.5, 0, NULL, 1772409600000000);
INSERT INTO public.predictions VALUES (4, 'fraud', 'e00004', 1806969600000000, 1806969600000000, 'live', '\x7b226964223a22653030303034222c22616d6f756e74223a342e357d', 'plan-1', '\x0000803f00000040', 'dev-fraud', '1', 'champion', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 0.25, 0.2, 0.5, 0, NULL, 1772409600000000);
INSERT INTO public.predictions VALUES (5, 'fraud', 'e00009', -5, 1772409600000000, 'history', '\x7b226964223a22653030303039222c22616d6f756e74223a392e357d', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1772409600000000);
INSERT INTO public.reports VALUES (1, 'fraud', 'drift', 'dev-fraud/1', NULL, 1772496000000000, 'stable', '{}', '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a', NULL, NULL, 1772496000000000);
INSERT INTO public.roles VALUES (1, 1, 'fraud', 'dev-fraud', 'champion', '1', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 1772409600000000, 1795206974102995);
INSERT INTO public.roles VALUES (2, 2, 'fraud', 'dev-fraud', 'challenger', '2', 'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc', 1772409600000000, 1795206974127353);
INSERT INTO public.served VALUES ('fraud', 'r1', 'dev-fraud', '1', '1', '{}', 1772409600000000, 1772409600000000);
INSERT INTO public.shadow VALUES ('fraud', 'dev-fraud', '2', 'e00001', 'challenger', 0.75, 0.8, 0.6, 1, NULL, 1772409600000000);
INSERT INTO public.spool_ledger VALUES ('fraud', 'w1', 2, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 1772409600000000);
SELECT pg_catalog.setval('public.labels_label_id_seq', 1, true);
SELECT pg_catalog.setval('public.predictions_row_id_seq', 5, true);
SELECT pg_catalog.setval('public.quarantine_quarantine_id_seq', 1, false);
SELECT pg_catalog.setval('public.reports_report_id_seq', 1, true);
SELECT pg_catalog.setval('public.roles_role_id_seq', 2, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT pk_decisions PRIMARY KEY (seq);
ALTER TABLE ONLY public.labels
    ADD CONSTRAINT pk_labels PRIMARY KEY (label_id);
ALTER TABLE ONLY public.leases
    ADD CONSTRAINT pk_leases PRIMARY KEY (name);
ALTER TABLE ONLY public.operations
    ADD CONSTRAINT pk_operations PRIMARY KEY (op_id);
ALTER TABLE ONLY public.plans
    ADD CONSTRAINT pk_plans PRIMARY KEY (plan_id);
ALTER TABLE ONLY public.predictions
    ADD CONSTRAINT pk_predictions PRIMARY KEY (row_id);
ALTER TABLE ONLY public.quarantine
    ADD CONSTRAINT pk_quarantine PRIMARY KEY (quarantine_id);
ALTER TABLE ONLY public.reports
    ADD CONSTRAINT pk_reports PRIMARY KEY (report_id);
ALTER TABLE ONLY public.roles
    ADD CONSTRAINT pk_roles PRIMARY KEY (role_id);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT pk_runs PRIMARY KEY (run_id);
ALTER TABLE ONLY public.served
    ADD CONSTRAINT pk_served PRIMARY KEY (usecase, replica);
ALTER TABLE ONLY public.shadow
    ADD CONSTRAINT pk_shadow PRIMARY KEY (usecase, model, version, event_id);
ALTER TABLE ONLY public.shadow_watches
    ADD CONSTRAINT pk_shadow_watches PRIMARY KEY (usecase, model, version);
ALTER TABLE ONLY public.spool_ledger
    ADD CONSTRAINT pk_spool_ledger PRIMARY KEY (usecase, writer);
ALTER TABLE ONLY public.decisions
    ADD CONSTRAINT uq_decisions_hash UNIQUE (hash);
ALTER TABLE ONLY public.labels
    ADD CONSTRAINT uq_labels_usecase_event_id_source_y_observed_at UNIQUE (usecase, event_id, source, y, observed_at);
ALTER TABLE ONLY public.predictions
    ADD CONSTRAINT uq_predictions_usecase_event_id UNIQUE (usecase, event_id);
CREATE INDEX ix_decisions_kind_seq ON public.decisions USING btree (kind, seq);
CREATE INDEX ix_operations_model_state ON public.operations USING btree (model, state);
CREATE INDEX ix_predictions_usecase_event_time_row_id ON public.predictions USING btree (usecase, event_time, row_id);
CREATE INDEX ix_reports_usecase_kind_as_of ON public.reports USING btree (usecase, kind, as_of);
CREATE INDEX ix_roles_model_role_at ON public.roles USING btree (model, role, at);
CREATE INDEX ix_runs_usecase_flow_started_at ON public.runs USING btree (usecase, flow, started_at);
CREATE TRIGGER decisions_chain BEFORE INSERT ON public.decisions FOR EACH ROW EXECUTE FUNCTION public.incumbent_chain();
CREATE TRIGGER decisions_no_change BEFORE DELETE OR UPDATE ON public.decisions FOR EACH ROW EXECUTE FUNCTION public.incumbent_refuse();
CREATE TRIGGER decisions_no_truncate BEFORE TRUNCATE ON public.decisions FOR EACH STATEMENT EXECUTE FUNCTION public.incumbent_refuse();
CREATE TRIGGER roles_no_change BEFORE DELETE OR UPDATE ON public.roles FOR EACH ROW EXECUTE FUNCTION public.incumbent_refuse();
CREATE TRIGGER roles_no_truncate BEFORE TRUNCATE ON public.roles FOR EACH STATEMENT EXECUTE FUNCTION public.incumbent_refuse();
