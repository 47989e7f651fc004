# mWarp: build, check, test, demo. `make help` lists the targets. Needs Debian 12, Node 20 and npm; the rest is
# installed by scripts/install-packages.sh (as root) or named by it (otherwise).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS  ?= -O2 -g
WARN    := -std=gnu11 -Wall -Wextra -Werror
BIN     := node_modules/.bin

SOURCES     := $(shell find src -name '*.ts' 2>/dev/null)
AGENT       := $(shell find src/agent src/protocol src/units.ts src/errors.ts -name '*.ts' 2>/dev/null)
VMM_C       := $(wildcard native/vmm/*.c)
GUEST_C     := $(wildcard native/guest/*.c)
CRIU_C      := $(wildcard native/criu/*.c)
HOST_C      := $(wildcard native/host/*.c)
BENCH_C     := $(wildcard native/bench/*.c)
MEMORY_C    := $(wildcard native/memory/*.c)
WORKLOADS_C := $(wildcard test/workloads/*.c)
KMOD_FILES  := $(wildcard native/kmod/*.[ch]) native/kmod/Kbuild
KMOD_TEST_C := $(wildcard test/kmod/*.c)

# The kernel that mwarp.ko is built for, and where its headers are.
KERNEL       ?= $(shell uname -r)
KERNEL_BUILD ?= /lib/modules/$(KERNEL)/build

NATIVE  := $(if $(VMM_C),dist/native/libmwarp-vmm.so) \
           $(if $(GUEST_C),dist/native/mwarp-guest) \
           $(if $(CRIU_C),dist/native/libmwarp-handover.so) \
           $(if $(HOST_C),dist/native/warp-copy.node) \
           $(if $(BENCH_C),dist/native/mwarp-bench-memory) \
           $(if $(MEMORY_C),dist/native/mwarp-memory) \
           dist/native/mwarp-bench-touch \
           dist/native/mwarp-bench-gap
BUNDLE  := $(if $(wildcard src/agent/main.ts),dist/agent.mjs)
WORKLOAD_NAMES := $(patsubst test/workloads/%.c,%,$(filter-out %/common.c %/all.c,$(WORKLOADS_C)))
WORKLOADS := $(WORKLOAD_NAMES:%=dist/test/%)
MODULES := node_modules/.package-lock.json

.PHONY: help build check check-types check-style check-walls check-unused unit test e2e soak zdtm demo bench bench-quick measure measure-kmod clean packages native workloads kmod

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

build: packages $(MODULES) dist/.tsc $(BUNDLE) native ## everything that runs: dist/
	@echo "built: bin/mwarp"

packages:
	@scripts/install-packages.sh

# npm writes this file on every install, so it is older than the lock file exactly when the lock file has changed.
# Not `npm ci`: it wants every optional package of every platform in the lock file, and mirrors that serve one platform
# cannot put them there. --no-save keeps the versions of the lock file and leaves the file alone.
$(MODULES): package-lock.json package.json
	npm install --no-save --ignore-scripts --no-progress --loglevel=error
	@touch $@

dist/.tsc: $(SOURCES) tsconfig.json $(MODULES)
	$(BIN)/tsc -p .
	@touch $@

dist/agent.mjs: $(AGENT) $(MODULES)
	@mkdir -p $(@D)
	$(BIN)/esbuild src/agent/main.ts --bundle --platform=node --format=esm --target=node20 --log-level=warning --outfile=$@

native: $(NATIVE) ## the C parts only

dist/native/libmwarp-vmm.so: $(VMM_C) $(wildcard native/vmm/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -fPIC -shared -o $@ $(VMM_C) -lpthread -ldl

dist/native/mwarp-guest: $(GUEST_C) $(wildcard native/guest/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -o $@ $(GUEST_C)

# CRIU forks tasks in it: no threads of its own, and nothing is linked but the C library.
dist/native/libmwarp-handover.so: $(CRIU_C) $(wildcard native/criu/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -shared -o $@ $(CRIU_C)

dist/native/warp-copy.node: $(HOST_C) $(wildcard native/host/*.h) $(MODULES)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -fPIC -shared -I node_modules/node-api-headers/include -o $@ $(HOST_C) -lpthread

dist/native/mwarp-bench-memory: $(BENCH_C) $(wildcard native/bench/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -o $@ $(BENCH_C) -lpthread

dist/native/mwarp-memory: $(MEMORY_C)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -o $@ $(MEMORY_C)

dist/native/mwarp-bench-touch: native/bench/touch/touch.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -o $@ $<

dist/native/mwarp-bench-gap: native/bench/gap/gap.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -o $@ $<

# Not a part of `build`: mWarp runs without it, and only hosts whose kernel takes modules have a use for it.
kmod: dist/kmod/$(KERNEL)/mwarp.ko ## the kernel module, for this kernel or KERNEL=RELEASE (and KERNEL_BUILD=its headers)

dist/kmod/$(KERNEL)/mwarp.ko: $(KMOD_FILES)
	@[ -e $(KERNEL_BUILD)/Makefile ] || { echo "mwarp: no headers of kernel $(KERNEL): apt-get install linux-headers-$(KERNEL)" >&2; exit 1; }
	@mkdir -p $(@D)
	cp $(KMOD_FILES) $(@D)/
	$(MAKE) -C $(KERNEL_BUILD) M=$(abspath $(@D)) modules

workloads: $(WORKLOADS) dist/test-support/capture dist/test-support/console dist/test-support/zdtm-init dist/test-support/kmod-test ## the C programs of the tests

# Runs in VMs that have nothing but it and the module.
dist/test-support/kmod-test: $(KMOD_TEST_C) $(wildcard test/kmod/*.h) native/kmod/mwarp.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -o $@ $(KMOD_TEST_C)

# It runs in containers that have no libraries of this machine.
dist/test-support/zdtm-init: test/zdtm/init.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -o $@ $<

dist/test-support/%: test/support/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -o $@ $<

dist/workloads/%.o: test/workloads/%.c $(wildcard test/workloads/*.h test/workloads/*/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -Dmain=main_of_$(subst -,_,$(notdir $*)) -c -o $@ $<

# What is in a folder belongs to the workload of that name.
WORKLOAD_PARTS := $(patsubst test/%.c,dist/%.o,$(wildcard test/workloads/*/*.c))
WORKLOAD_O := $(WORKLOAD_NAMES:%=dist/workloads/%.o) $(WORKLOAD_PARTS) dist/workloads/common.o
dist/test/all: test/workloads/all.c $(WORKLOAD_O)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(WARN) -static -s '-DPROGRAMS=$(foreach name,$(WORKLOAD_NAMES),PROGRAM($(name),$(subst -,_,$(name))))' -o $@ $< $(WORKLOAD_O) -lpthread

$(WORKLOADS): dist/test/all
	ln -sf all $@

check: $(MODULES) check-types check-style check-walls check-unused unit ## types, lint, import walls, unused code, unit tests

check-types: $(MODULES)
	$(BIN)/tsc --noEmit -p .
	$(BIN)/tsc --noEmit -p test

check-style: $(MODULES)
	$(BIN)/biome check --error-on-warnings .
	scripts/check-c-format.sh

check-walls:
	node scripts/check-imports.mjs
	node scripts/check-tree.mjs
	node scripts/check-promises.mjs

check-unused: $(MODULES)
	$(BIN)/knip --no-progress

unit: $(MODULES) workloads dist/.tsc dist/native/libmwarp-handover.so dist/native/mwarp-guest dist/native/mwarp-bench-memory dist/native/mwarp-bench-touch dist/native/mwarp-bench-gap ## unit tests only
	node scripts/run-tests.mjs unit

e2e: build workloads ## end-to-end tests only (boots VMs; root)
	node scripts/run-tests.mjs e2e e2e-alone

test: build check-types check-style check-walls check-unused workloads ## build, checks, unit and end-to-end tests
	node scripts/run-tests.mjs unit e2e e2e-alone

soak: build workloads ## every test in its long form: each death at each state, 200 moves against the adversary, every lie (hours)
	MWARP_TEST_LONG=1 node scripts/run-tests.mjs unit e2e e2e-alone

zdtm: build workloads ## all of CRIU's own test programs, moved there and back (hours), into test/zdtm/results.json
	node scripts/run-tests.mjs zdtm

demo: build ## a Redis moves between two VMs and back
	bin/mwarp demo

bench: build ## every measurement, ten rounds each (hours), into results/; then: mwarp bench report FILE
	bin/mwarp bench full

bench-quick: build ## a look at the methods and the planner, under five minutes
	bin/mwarp bench quick

measure: build ## what the table of a stun costs on this machine
	$(BIN)/esbuild test/measure/table.ts --bundle --platform=node --format=esm --target=node20 --packages=external --log-level=warning --outfile=dist/test-support/measure-table.mjs
	node dist/test-support/measure-table.mjs

measure-kmod: build workloads ## what an exchange by the kernel module costs, in a VM
	$(BIN)/esbuild test/measure/kernel-module.ts --bundle --platform=node --format=esm --target=node20 --packages=external --log-level=warning --outfile=dist/test-support/measure-kmod.mjs
	node dist/test-support/measure-kmod.mjs

clean: ## remove what the build made
	rm -rf dist coverage test-results
