"""llama.cpp's HTTP server on loopback: llama.py MODEL.gguf PORT [KEY]. It queues and never answers 429.

LLAMA_SLOTS requests are worked on at a time: one by default, because requests side by side change each other's rounding, and
with it the answers at temperature 0. For the same reason no prompt is taken from the cache.
"""

import os
import sys
import time

import xllamacpp

TEMPLATE = (
    "{%- for m in messages -%}{{ ('Question: ' if m['role'] == 'user' else '') + m['content'] + '\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Answer:' }}{%- endif -%}"
)

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
slots = int(os.environ.get("LLAMA_SLOTS", 1))
params.n_parallel, params.n_ctx = slots, 2048 * slots
params.cache_ram_mib, params.cache_prompt = 0, False
# More threads are slower as soon as anything else uses a core.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.ui, params.verbosity = False, 1
params.endpoint_metrics = True
# The model is a base model without a template of its own.
params.chat_template = TEMPLATE
params.model_alias = {"gemma-3-270m"}
if len(sys.argv) > 3 and sys.argv[3]:
    params.api_keys = [sys.argv[3]]
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(3600)
