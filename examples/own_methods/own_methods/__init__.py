"""Methods of one's own for carlt: a loss, a regularizer, a network, a data set, a view and a second stage."""
