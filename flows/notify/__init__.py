"""Notices: the one way in which the product tells people that something happened.

    decisions, runs, watches  ->  outbox (rows in the store)  ->  senders (webhook, Apprise)  ->  people

What happened is *derived* from the chain of decisions, the runs and the state of the parts, not sent at the place of
the act: so it is told whoever acted, and also when the actor died. Nothing here holds an event, an entity or a value of
a feature, and no address of a target is ever logged or stored: addresses hold secrets.
"""
