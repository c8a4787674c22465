# Eight tasks of make that each answer an eighth of INPUT, and a merge of their results.
#
#   make -j8 -k -f tasks.mk INPUT=prompts.jsonl OUT=out [FLAGS='--max-cost 40'] [STATE=/local/llbatch]
#
# A part appears when it is whole. The same command again goes on where it stopped: with the parts that are missing, from
# their state, or on another machine from OUT/answers. After a change of INPUT, only changed rows are sent.
TASKS := 8
STATE ?= $(OUT)/state
numbers := $(shell seq $(TASKS))
parts := $(numbers:%=$(OUT)/part-%.jsonl)

$(OUT)/results.jsonl: $(parts)
	llbatch merge $(INPUT) $(parts) -o $@ --summary $(OUT)/summary.json \
	    --part-summaries $(numbers:%=$(OUT)/summary-%.json)

$(OUT)/part-%.jsonl: $(INPUT)
	@mkdir -p $(OUT)
	llbatch run $(INPUT) --shard $*/$(TASKS) --resume --tolerate-failures --answers $(OUT)/answers \
	    --state-dir $(STATE)/$* -o $@ --summary $(OUT)/summary-$*.json $(FLAGS)
