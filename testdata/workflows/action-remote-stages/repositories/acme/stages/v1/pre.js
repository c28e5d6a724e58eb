console.log(`pre ${process.env.INPUT_NAME}`); console.log(`::save-state name=from_pre::${process.env.INPUT_NAME}`);
