"""Events, scores, labels, actions: the prediction log."""
