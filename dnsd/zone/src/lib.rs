//! What the answer to a DNS query is: a pure function of a zone and a question
