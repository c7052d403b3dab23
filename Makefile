# `make help` says what there is. Everything is set up when it is first needed.
FLYD_VENV ?= .venv
VENV := $(abspath $(FLYD_VENV))
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
READY := $(VENV)/.made-from-requirements
COLLECTIONS := build/collections
PYTHON_PARTS := tests $(wildcard bench)
MAKEFLAGS += --no-print-directory
# Ends the machines and the S3 server that the command behind it starts, whatever becomes of it; FLYD_KEEP leaves them.
SESSION := $(PYTHON) tests/vm/lab.py session --
SHELL := /bin/bash

export ANSIBLE_COLLECTIONS_PATH = $(abspath $(COLLECTIONS))
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: demo-fleet help venv check quick quick-lifecycle quick-others static format unit sanity sanity-quick lint types docs-lint test powercuts crashes flushes layouts layouts-vm pairs histories histories-vm at-once survival bench-unpack bench-unpack-synthetic bench-unpack-growth bench-devmapper bench-generations bench-chain bench-fetch bench-fetch-memory bench-fetch-options bench-start bench-fleet test-kills bench-second-run test-predictions test-at-once test-cut-off test-package-index test-prepare lock demo build clean distclean
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## Make the development environment in FLYD_VENV (.venv)

$(READY): requirements-dev.txt tools/venv.sh
	@tools/venv.sh $(VENV) requirements-dev.txt
	@touch $@

# A link to this checkout under the name of the collection.
$(COLLECTIONS): tools/collection_link.sh
	@tools/collection_link.sh $@
	@touch $@

demo: $(READY) $(COLLECTIONS) ## A VM, an S3 server, a redis image: from the archive to PONG
	@$(SESSION) tools/lab/demo.sh $(VENV)

demo-fleet: $(READY) $(COLLECTIONS) ## Three VMs: a rollout of redis, one of a version that does not start and goes back, and the reports (half an hour)
	@$(SESSION) tools/lab/demo_fleet.sh $(VENV)

test: $(READY) $(COLLECTIONS) ## Everything: the checks, unit tests, downloads from a real S3 server, playbooks in VMs, the package
	@$(SESSION) tools/test.sh $(VENV)

test-matrix: $(READY) $(COLLECTIONS) ## Unit tests on the Python floor of hosts, the rest on the newest ansible-core
	@$(SESSION) tools/test_matrix.sh

integration: $(READY) $(COLLECTIONS) ## The modules by ansible-test in a VM; TARGETS="flyd_pool …" for some of them
	@$(SESSION) tools/integration.sh $(VENV) $(TARGETS)

molecule: $(READY) $(COLLECTIONS) ## All scenarios of molecule in a VM; SCENARIOS="activate …" for some of them
	@$(SESSION) tools/molecule.sh $(VENV) $(SCENARIOS)

package: $(READY) ## Build the collection, check it as Galaxy does, install it, run it from there against a VM
	@$(SESSION) tools/package.sh $(VENV)
	@$(SESSION) tools/lab/installed.sh $(VENV)

N ?= 300
MACHINES ?= 1
CALLS ?= 100
CUTS ?= 30
AFTER ?= 0
HISTORIES ?= 10
LAYOUTS ?= 100
ROUNDS ?= 20
SEED ?= $(shell shuf --input-range=1-1000000000 --head-count=1)
powercuts: $(READY) ## MACHINES (1) VMs whose power is cut at N (300) random instants of activations and removals (half a minute each)
	@$(SESSION) $(PYTHON) tests/campaigns/powercuts.py --cuts $(N) --seed $(SEED) --machines $(MACHINES)

crashes: $(READY) ## Modules killed at every crash point, and CALLS (100) system calls that are killed or fail, in a VM (an hour)
	@$(SESSION) $(PYTHON) tests/campaigns/crashes.py --points -1 --calls $(CALLS) --seed $(SEED)

flushes: $(READY) ## The disk as it was at CUTS (30; 0 for all) flushes of an activation, in a VM, by dm-log-writes; WITHOUT=archive skips one and must fail
	@$(SESSION) $(PYTHON) tests/campaigns/flushes.py --cuts $(CUTS) --after $(AFTER) --seed $(SEED) $(if $(WITHOUT),--without $(WITHOUT))

histories-vm: $(READY) ## HISTORIES (10) random sequences of steps compared with a model, in a VM with a real device-mapper
	@$(SESSION) $(PYTHON) tests/campaigns/histories.py --histories $(HISTORIES) --seed $(SEED)

layouts-vm: $(READY) ## LAYOUTS (100) sets of foreign devices and files that resemble the collection's, in a VM with a real device-mapper
	@$(SESSION) $(PYTHON) tests/campaigns/layouts.py --layouts $(LAYOUTS) --seed $(SEED)

at-once: $(READY) ## Twenty runs at once for one key, then ROUNDS (20) of ten keys at once with removals among them, in a VM
	@$(SESSION) $(PYTHON) tests/campaigns/at_once.py --rounds $(ROUNDS) --seed $(SEED)

layouts: export FLYD_LAYOUTS = 100
layouts: $(READY) ## A hundred hosts with foreign devices and files that resemble the collection's: none of them may change (simulated)
	@$(PYTHON) -m pytest tests/unit/_lifecycle/faults/test_foreign.py

histories: export FLYD_HISTORIES = 60
histories: $(READY) ## Sixty random sequences of steps, kills and reboots compared with a model (simulated)
	@$(PYTHON) -m pytest tests/unit/_lifecycle/faults/test_histories.py

pairs: export FLYD_PAIRS = 10000
pairs: $(READY) ## Ten thousand random pairs of images: applying the difference to the first gives the same tree as a fresh unpack (root; twenty minutes)
	@$(PYTHON) -m pytest tests/unit/_image/delta/test_pairs.py -k the_fresh_one

survival: $(READY) ## Pools and disks that are full, failing, damaged or exchanged, reboots in each state, in a VM (half an hour)
	@$(SESSION) $(PYTHON) -m pytest tests/survival

check: $(READY) $(COLLECTIONS) ## The checks for every commit, side by side: style, types, documentation, sanity without pylint, each quick unit test once
	@$(MAKE) --jobs=2 --output-sync=target quick-lifecycle quick-others sanity-quick types lint docs-lint

quick: quick-lifecycle quick-others ## The unit tests of `make check`: none that is slow, and of each test the first parameters

# Two processes: side by side, and a small one is forked faster.
quick-lifecycle: $(READY) $(COLLECTIONS)
	@$(PYTHON) -m pytest --quick --quiet tests/unit/_lifecycle

quick-others: $(READY) $(COLLECTIONS)
	@$(PYTHON) -m pytest --quick --quiet --ignore tests/unit/_lifecycle tests/unit

static: lint types docs-lint sanity

unit: $(READY) ## Unit tests
	@$(PYTHON) -m pytest tests/unit

lint: $(READY) $(COLLECTIONS) ## ruff, shellcheck, yamllint, ansible-lint
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet --diff .
	$(BIN)/shellcheck --external-sources tools/*.sh .ci/run examples/*/*
	$(BIN)/yamllint --strict .
	PATH=$(BIN):$$PATH $(BIN)/ansible-lint -q

types: $(READY) $(COLLECTIONS) ## mypy --strict
	MYPYPATH=$(COLLECTIONS) $(BIN)/mypy --package ansible_collections.flyd.lite.plugins
	MYPYPATH=plugins:tests/vm:. $(BIN)/mypy --python-version 3.11 $(PYTHON_PARTS)

docs-lint: $(READY) $(COLLECTIONS) ## Documentation of the plugins and roles, changelog
	PATH=$(BIN):$$PATH $(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all .
	$(BIN)/antsibull-changelog lint

sanity: $(READY) ## ansible-test sanity
	tools/sanity.sh $(VENV)

# pylint takes as long as all other sanity tests together, and ruff finds most of what it does: `make sanity` has it.
sanity-quick: $(READY) ## The sanity tests of `make check`: all but pylint
	tools/sanity.sh $(VENV) --skip-test pylint

# PYTHONDONTWRITEBYTECODE would have the modules compiled at each start, which an installed collection's are not.
bench-%: export PYTHONDONTWRITEBYTECODE =
bench-%: export PYTHONPATH = .:plugins:tests/vm

bench-unpack: $(READY) ## Unpacking beside tar, bsdtar, umoci and containerd (root; ten minutes)
	@$(PYTHON) -m bench.unpack

bench-unpack-synthetic: $(READY) ## 100,000 and 1,000,000 small entries, and 4 GB, beside the same (root; 20 GB of memory; half an hour)
	@$(PYTHON) -m bench.unpack --rounds 3 --image entries-100000
	@$(PYTHON) -m bench.unpack --rounds 1 --image entries-1000000
	@$(PYTHON) -m bench.unpack --rounds 1 --plain --image mb-4000

bench-unpack-growth: $(READY) ## From 10,000 to 1,000,000 entries, from 100 MB to 4 GB (root; 10 GB of memory)
	@$(PYTHON) -m bench.growth

bench-devmapper: $(READY) ## From an archive to a mapped snapshot beside containerd's devmapper snapshotter, in a VM (ten minutes)
	@$(SESSION) $(PYTHON) -m bench.devmapper

bench-generations: $(READY) ## The next generation of a Debian image with Python beside a fresh base: blocks, seconds, CPU, in a VM (an hour)
	@$(SESSION) $(PYTHON) -m bench.generations

bench-chain: $(READY) ## GENERATIONS (100) of an image, each base made of the one before: blocks, fragmentation, e2fsck, in a VM (half an hour)
	@$(SESSION) $(PYTHON) -m bench.chain --generations $(or $(GENERATIONS),100)

bench-fetch: $(READY) ## Fetching beside rclone and boto3, near and far (ten minutes)
	@$(PYTHON) -m bench.fetch

bench-fetch-memory: $(READY) ## The peak of memory while 16 MiB, 512 MiB and 4 GiB are fetched (5 GB of memory for the file)
	@$(PYTHON) -m bench.fetch_memory

bench-fetch-options: $(READY) ## Fetching with other numbers of connections and sizes of parts (ten minutes)
	@$(PYTHON) -m bench.fetch --sweep --rounds 3

test-kills: export FLYD_KILL_MIB = 512
test-kills: $(READY) ## kill -9 at ten points of a download of 512 MiB (make test has 16 MiB)
	@$(PYTHON) -m pytest -rP tests/s3/downloads/test_kills.py

.PHONY: fuzz bombs slow damage test-real-images
test-real-images: $(READY) ## Images built by buildah, podman, skopeo, umoci, bsdtar and mmdebstrap, beside GNU tar (root; apt; five minutes)
	@tools/real_images.sh $(VENV)

fuzz: $(READY) ## Coverage-guided hostile archives, for MINUTES (10)
	@$(PYTHON) tests/fuzz/fuzz.py --minutes $(or $(MINUTES),10)

bombs: $(READY) ## Small archives that expand to large ones: which limit refuses them, when, and with how much memory
	@PYTHONPATH=plugins:. $(PYTHON) -m tests.fuzz.bombs

slow: $(READY) ## Archives of 10 MB at most, each aimed at the slowest path of a stage, under seconds=SECONDS (5)
	@PYTHONPATH=plugins:. $(PYTHON) -m tests.fuzz.slow --seconds $(or $(SECONDS),5)

damage: $(READY) ## Every sample image, cut at every block and with a byte flipped in every header
	@PYTHONPATH=plugins:. $(PYTHON) -m tests.fuzz.damage

bench-second-run: $(READY) $(COLLECTIONS) ## activate.yml with nothing to do, beside four pings, on a VM
	@$(SESSION) $(SHELL) -c 'tools/lab/prepared_vm.sh $(VENV) bench >/dev/null && $(PYTHON) -m bench.second_run'

bench-start: $(READY) ## CPU time of each module with nothing to do, without and with what prepare has compiled (root; two minutes)
	@$(PYTHON) -m bench.start

bench-fleet: export PYTHONDONTWRITEBYTECODE = 1
bench-fleet: $(READY) $(COLLECTIONS) ## The controller of a rollout beside as many pings: CPU, memory, forks, with HOSTS (100) simulated hosts (root; half an hour)
	@$(PYTHON) -m bench.fleet --hosts $(or $(HOSTS),100)

.PHONY: room test-room
TREES ?= 200
room: export FLYD_TREES = $(TREES)
room: $(READY) ## TREES (200) random trees on real file systems: the computed volume, and what it takes of its pool (root; five minutes)
	@$(PYTHON) -m pytest tests/unit/_image/merge/test_room.py

test-room: $(READY) $(COLLECTIONS) ## Estimates beside dmsetup status for blocks of 64 KiB to 1 MiB, and FLYD_SNAPSHOTS (1000) snapshots in a default pool, in a VM (half an hour)
	@$(SESSION) $(PYTHON) -m pytest -rP tests/room

.PHONY: test-debian
SUITE ?= trixie
test-debian: export FLYD_LAB_SUITE = $(SUITE)
test-debian: $(READY) $(COLLECTIONS) ## The role prepare, an activation with PONG, a reboot and the removal on the Debian SUITE (trixie; or bullseye), in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/test_1_virgin_host.py tests/e2e/test_2_activation.py tests/e2e/test_3_reboot.py tests/e2e/test_4_removal.py

.PHONY: test-guests
test-guests: $(READY) $(COLLECTIONS) ## What guests write, beside LVM, md, bcache and btrfs of the host, in a VM; FLYD_GUESTS_WITHOUT=rule (flags, lvm, mdadm) disables one protection
	@$(SESSION) $(PYTHON) -m pytest tests/guests

.PHONY: test-failures test-reboots
test-failures: $(READY) $(COLLECTIONS) ## Nineteen failures of hosts, servers and archives: error kind, hint, no residue, and recovery by the next run, in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_5_failures.py

test-reboots: $(READY) $(COLLECTIONS) ## A reboot without flyd-restore, and the metrics' timer, in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_3_reboots.py

.PHONY: test-ee test-cache
test-ee: $(READY) ## The execution environment's context by ansible-builder, and the collection installed from it (pip; a minute)
	@tools/lab/ee.sh $(VENV)

test-cache: $(READY) ## nginx as the guide configures it, in front of a real S3 server (root; apt; a minute)
	@tools/lab/cache.sh $(VENV)

.PHONY: fleet fleet-kills
fleet: export FLEET_HOSTS = $(or $(HOSTS),1000)
fleet: export FLEET_FAULTS = all
fleet: $(READY) $(COLLECTIONS) ## Rollouts on HOSTS (1000) simulated hosts: the real controller and engine, faults of every kind, their table in build/fleet (root; hours, 20 hosts half an hour)
	@code=0; $(PYTHON) -m pytest -rP tests/fleet || code=$$?; cat build/fleet/faults.md; exit $$code

fleet-kills: export FLEET_HOSTS = $(or $(HOSTS),12)
fleet-kills: export FLEET_KILLS = $(or $(KILLS),50)
fleet-kills: $(READY) $(COLLECTIONS) ## The controller of a rollout killed at KILLS (50) random instants, and the run after it, on simulated hosts (root; half an hour)
	@$(PYTHON) -m pytest -rP tests/fleet/test_kills.py

.PHONY: fleet-newest
fleet-newest: $(READY) $(COLLECTIONS) ## What rollouts rely on of Ansible, and rollouts on simulated hosts, with the newest ansible-core (root; needs Python 3.12; ten minutes)
	@$(SESSION) tools/test_matrix.sh rollouts

.PHONY: test-instances
test-instances: export FLYD_CUTS = $(or $(CUTS_OF_POWER),10)
test-instances: $(READY) $(COLLECTIONS) ## A redis guest from version to version, automatic rollback, and CUTS_OF_POWER (10) cuts between flip and confirmation, in a VM (half an hour)
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/instances

.PHONY: test-rollout
test-rollout: $(READY) $(COLLECTIONS) ## Rollouts to three VMs: a bad version, a cut of power, a host that is off, one without room (an hour)
	@$(SESSION) $(PYTHON) -m pytest -rP tests/e2e/apart/rollout

.PHONY: test-growth
test-growth: $(READY) $(COLLECTIONS) ## A guest that fills its pool: it grows before it is full, and at its maximum the guest gets errors, in a VM (ten minutes)
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/growth

.PHONY: test-devices
test-devices: $(READY) $(COLLECTIONS) ## A pool on logical volumes: growth, a disk that comes late at boot, pools made by hand and by LVM, in a VM (ten minutes)
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/devices

.PHONY: test-microvm
test-microvm: $(READY) $(COLLECTIONS) ## The example of docs/guides/microvms.md: a redis image boots as a microVM of QEMU, from the bytes of its snapshot in a VM (five minutes)
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/microvm

.PHONY: test-upkeep
test-upkeep: $(READY) $(COLLECTIONS) ## Twenty generations with prune between them, and a lost database in each state of an image, in a VM (a quarter of an hour)
	@$(SESSION) $(PYTHON) -m pytest -rP tests/e2e/apart/upkeep

.PHONY: test-generations
test-generations: $(READY) $(COLLECTIONS) ## Five generations of an image, each base made of the one before: tree, blocks, removals, in a VM (ten minutes)
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/generations

.PHONY: test-in-use
test-in-use: $(READY) $(COLLECTIONS) ## Removals while one of four snapshots is mounted, open, or below another device, in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_4_in_use.py

.PHONY: test-leaving
test-leaving: $(READY) $(COLLECTIONS) ## Compare all files of a host before prepare with those after unprepare, in a VM (half an hour)
	@$(SESSION) $(PYTHON) -m pytest tests/leaving

test-predictions: $(READY) $(COLLECTIONS) ## Check mode in each state of an image compared with the real run, in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_6_check_mode.py

test-at-once: $(READY) $(COLLECTIONS) ## Several runs at once on one VM, five rounds
	@FLYD_ROUNDS=5 $(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_7_at_once.py

.PHONY: test-family
test-family: $(READY) $(COLLECTIONS) ## Families of layer objects: pinned, grown, removed, in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_5_family.py

test-cut-off: $(READY) $(COLLECTIONS) ## Plays that are interrupted (lost connection, Ctrl-C, end of an async task's time), in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_9_cut_off.py tests/e2e/apart/test_9_hanging_host.py

test-package-index: $(READY) $(COLLECTIONS) ## The role prepare from a package index, in a VM
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_8_package_index.py

test-prepare: export FLYD_PREPARE_KILLS = 8
test-prepare: $(READY) $(COLLECTIONS) ## The role prepare on a prepared host: refused, killed at each task, rebooted, in a VM (half an hour)
	@$(SESSION) $(PYTHON) -m pytest tests/unit/roles tests/e2e/apart/test_8_prepare_again.py
	@$(SESSION) $(PYTHON) -m pytest tests/e2e/apart/test_8_units.py

.PHONY: docs
docs: $(READY) $(COLLECTIONS) ## The documentation as a site in build/docs/site
	@tools/docs.sh $(VENV)

lock: $(READY) ## Update the pinned packages of hosts, with hashes, for each supported Python
	@tools/lock.sh $(VENV)

format: $(READY) ## Apply ruff's fixes and formatting
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format .

build: $(READY) ## The collection as a tarball in build/
	$(BIN)/ansible-galaxy collection build --force --output-path build

clean: ## Remove what was built, keep the environment and the lab's cache
	rm -rf build .hypothesis tests/output
	find plugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV)
