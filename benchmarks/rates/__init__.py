"""What each kind of guidance takes in TGV, and in every yardstick.

A module of this package measures one kind: ``measure`` gives a row of figures for each clip of a video,
``PUBLISHED`` names the yardstick that is the paper's scheme, ``GENERAL`` those that know nothing of guidance.
Sizes are bytes; side information is counted, and choices between a yardstick's options are free.
"""
