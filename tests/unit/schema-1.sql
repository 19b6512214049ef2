BEGIN TRANSACTION;
CREATE TABLE job (
	id TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	spec JSON NOT NULL, 
	state TEXT NOT NULL, 
	priority INTEGER NOT NULL, 
	turn INTEGER NOT NULL, 
	not_before FLOAT NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	token INTEGER NOT NULL, 
	beat INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	strikes INTEGER NOT NULL, 
	checkpoint INTEGER NOT NULL, 
	worker TEXT, 
	worker_process TEXT, 
	child_process TEXT, 
	step INTEGER NOT NULL, 
	steps INTEGER, 
	rate FLOAT, 
	message TEXT, 
	metrics JSON NOT NULL, 
	artifact TEXT, 
	error JSON, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	PRIMARY KEY (id)
);
INSERT INTO "job" VALUES('b5f54c8b-1','b5f54c8bbeb93e02fa711c2be2c181a8d21d8549dedaf9f26235b0532499c1e2',1,'finetune','{"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "task": {"name": "ner", "labelling": "first"}, "recipe": {"name": "finetune"}, "split": "test", "limit": null, "schedule": {"epochs": 3.0, "steps": null, "batch_tokens": 1024, "batch_size": null, "max_tokens": 512, "lr": 0.0001, "warmup": 0.1, "weight_decay": 0.01, "clip": 1.0, "evaluate_every": null, "patience": null, "checkpoint_every": 200}, "seed": 42, "compute": {"engine": "local", "devices": 1, "threads": null}}','succeeded',0,1,0.0,0,1,2,1,0,5,'0eb0b062c683c44b','boot 17912 1299193',NULL,10,10,NULL,NULL,'{"test_f1": 0.75}','/models/done',NULL,1.79537138518944334986e+09,1.79537138519312715529e+09,1.79537138519871068004e+09);
INSERT INTO "job" VALUES('b14c2135-1','b14c21350fbf1e25825151651e9f3265fe6e46bfe830cc6e12c1456d26458601',1,'finetune','{"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "task": {"name": "ner", "labelling": "first"}, "recipe": {"name": "finetune"}, "split": "test", "limit": null, "schedule": {"epochs": 3.0, "steps": null, "batch_tokens": 1024, "batch_size": null, "max_tokens": 512, "lr": 0.0001, "warmup": 0.1, "weight_decay": 0.01, "clip": 1.0, "evaluate_every": null, "patience": null, "checkpoint_every": 200}, "seed": 1, "compute": {"engine": "local", "devices": 1, "threads": null}}','failed',0,2,0.0,0,1,1,1,1,0,'0eb0b062c683c44b','boot 17912 1299193',NULL,0,NULL,NULL,NULL,'{}',NULL,'{"type": "BadData", "message": "line 3 has three columns", "next_step": "Correct it."}',1.79537138520221114159e+09,1.79537138520443105699e+09,1.7953713852058875561e+09);
INSERT INTO "job" VALUES('cf9ee246-1','cf9ee2467d0c93d6699bb30da2eadb7a6a2d5f94c71235cea78debf1cb449439',1,'evaluate','{"kind": "evaluate", "model": "b5f54c8b-1", "dataset": "bc5cdr", "task": {"name": "ner", "labelling": "first"}, "recipe": null, "split": "test", "limit": null, "schedule": {"epochs": 3.0, "steps": null, "batch_tokens": 1024, "batch_size": null, "max_tokens": 512, "lr": 0.0001, "warmup": 0.1, "weight_decay": 0.01, "clip": 1.0, "evaluate_every": null, "patience": null, "checkpoint_every": 200}, "seed": 42, "compute": {"engine": "local", "devices": 1, "threads": null}}','queued',0,3,0.0,0,0,0,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,'{}',NULL,NULL,1.79537138520883250234e+09,NULL,NULL);
CREATE TABLE metric (
	job_id TEXT NOT NULL, 
	step INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value FLOAT, 
	PRIMARY KEY (job_id, step, name), 
	FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
);
INSERT INTO "metric" VALUES('b5f54c8b-1',5,'loss',0.5);
INSERT INTO "metric" VALUES('b5f54c8b-1',5,'lr',NULL);
CREATE TABLE worker (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	device TEXT NOT NULL, 
	process TEXT NOT NULL, 
	seen_at FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX job_newest ON job (created_at DESC, turn DESC);
CREATE UNIQUE INDEX job_alive ON job (digest) WHERE state IN ('queued', 'running') AND cancel_requested = 0;
CREATE INDEX job_queue ON job (state, priority DESC, turn);
CREATE INDEX job_child ON job (id) WHERE child_process IS NOT NULL;
COMMIT;
PRAGMA user_version=1;
