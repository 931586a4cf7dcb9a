"""Pictures and sentences that are made, not found: what a maker knows of its things decides what is true of them.

`facts` turns facts about things into sentences, `tables` and `people` make pictures with such facts, `names` says of
photographs what is there and what is not, `enrich` adds sentences to a data set, `composition` mixes pictures into
training on the fly. docs/synthesis.md is the manual.
"""
