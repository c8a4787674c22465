-- What wrk posts: one fixed body of about a kilobyte, the middle of the input's lines.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer no-real-key"
wrk.body = '{"model":"meta-llama/Llama-3.2-3B-Instruct-Turbo","messages":[{"role":"user","content":"'
  .. string.rep("alpha beta ", 95) .. '"}],"max_tokens":64}'
