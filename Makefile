# A front for the scripts; each says in its first lines what it does and takes.
.PHONY: bench test
bench:
	cargo build --release -p forge
	scripts/bench.sh

test:
	scripts/test.sh
