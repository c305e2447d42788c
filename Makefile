# A thin front to CMake: what people type. The presets hold the settings.
PREFIX ?= /usr/local

.PHONY: build demo test bench models format install clean

build: ## the program at build/headrace, the library at build/libheadrace.so and .a
	@scripts/setup
	@test -f build/build.ninja || cmake --preset release
	@cmake --build build --target headrace headrace_shared headrace_archive

demo: build ## a model that doesn't fit its memory, streaming
	@scripts/demo

test: build
	@cmake --build build
	@scripts/fetch-models || echo "make test: going on without the models; tests that need one are skipped" >&2
	@ctest --test-dir build --output-on-failure -j "$$(nproc)"

bench: build ## the window against the full load, on the demo model
	@scripts/fetch-models chat
	@build/headrace bench models/SmolLM2-135M-Instruct.Q4_1.gguf --window 4,8,16,full

models: ## the demo models, into models/
	@scripts/setup
	@scripts/fetch-models

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: build
	@cmake --install build --prefix "$(PREFIX)"

clean: ## the build directories; models/ and the cache stay
	rm -rf build build-*
