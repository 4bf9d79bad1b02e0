//! The data plane: moves packets between TUN devices through the translator
