"""Commands for models: init, check, train, tune, evaluate, plan, verdict."""
