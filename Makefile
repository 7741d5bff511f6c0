# The two commands of the README, and what a developer needs besides. The build itself is CMake's: see CMakePresets.json.

BUILD ?= build
INSTALL ?= yes
JOBS ?= $(shell nproc)
# In CI a warning is an error.
WERROR ?= $(if $(CI),ON,OFF)

SAMPLE := inputs/models/shakespeare-moe
PROMPTS := inputs/prompts/sample.jsonl
OUTPUT := outputs/sample

ROOT := $(filter 0,$(shell id -u))
CROWDED := $(shell [ "$$(nproc)" -ge 4 ] || echo yes)
MPIRUN := mpirun --oversubscribe --bind-to none $(if $(ROOT),--allow-run-as-root) $(if $(CROWDED),--mca mpi_yield_when_idle 1)
# Containers commonly forbid one process to read another's memory, which Open MPI then fails on.
export OMPI_MCA_btl_vader_single_copy_mechanism ?= none

.PHONY: help build run test install-dependencies format clean

help:
	@echo 'make run      installs what is missing, builds, and generates from the sample prompts on 4 MPI ranks'
	@echo 'make test     installs what is missing, builds, and runs all tests'
	@echo 'make build    the program alone: $(BUILD)/mixserve'
	@echo 'make format   formats the sources with clang-format'
	@echo 'make clean    removes the build folders and the outputs of make run'
	@echo
	@echo 'INSTALL=no    installs nothing (where the libraries come from modules)'
	@echo 'BUILD=DIR     builds in another folder; JOBS=N compiles N files at once'

install-dependencies:
	@[ "$(INSTALL)" = no ] || scripts/install-dependencies

$(BUILD)/build.ninja: | install-dependencies
	cmake --preset release -B $(BUILD) -DMIXSERVE_WERROR=$(WERROR) $(if $(shell command -v ccache),-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

build: $(BUILD)/build.ninja install-dependencies
	@cmake --build $(BUILD) -j $(JOBS) --target mixserve

run: build
	$(BUILD)/mixserve convert --hf-dir $(SAMPLE) --output $(SAMPLE).h5 --force
	@rm -rf $(OUTPUT)
	$(MPIRUN) -n 4 $(BUILD)/mixserve run --model $(SAMPLE).h5 --input-file $(PROMPTS) --output-dir $(OUTPUT) --ranks-per-node 2
	@scripts/show-generations $(PROMPTS) $(OUTPUT)/generations.jsonl
	@echo 'The generations are in $(OUTPUT)/generations.jsonl, the timing in summary.json and steps.jsonl beside it.'

test: $(BUILD)/build.ninja install-dependencies
	@cmake --build $(BUILD) -j $(JOBS)
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

format:
	git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format -i

clean:
	rm -rf build build-debug build-sanitize $(OUTPUT) $(SAMPLE).h5
